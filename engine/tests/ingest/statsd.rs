//! statsd and DogStatsD, by datagrams and over connections.

use crate::kit::Job;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::UdpSocket;

const BODY: &str = r#"
[[streams]]
name = "metrics"
time = { column = "time", max_delay = "1d", max_future = "1d" }
fields = { name = "string", kind = "string", value = "f64", text = "string", rate = "f64", env = "string", host = "string", size = "i64" }

[[views]]
name = "all"
stream = "metrics"
by = ["name", "kind", "env", "host"]
window = { size = "1m" }
aggregates = ["count(), sum(value), min(rate), distinct(text), sum(size)"]
[[views.exports]]
file = { path = "OUT.csv" }
"#;

/// Seconds of one day in 2024.
const DAY: i64 = 1_704_067_200;

/// Metrics, and the rows that they stand for.
fn metrics(first: i64, count: i64) -> (Vec<String>, String) {
    let (mut lines, mut rows) = (Vec::new(), String::new());
    for number in first..first + count {
        let time = DAY + number % 600;
        let (line, row) = match number % 6 {
            0 => (
                format!("hits:{number}|c|@0.5|#env:prod,server:a|T{time}"),
                format!("hits,c,{},,0.5,prod,a,", number * 2),
            ),
            1 => (format!("load:{number}.5|g|T{time}|#env:dev"), format!("load,g,{number}.5,,1,dev,,")),
            2 => (format!("load:-3|g|T{time}"), "load,g+,-3,,1,,,".to_owned()),
            3 => (format!("took:7|ms|@0.1|T{time}|#size:{number}"), format!("took,ms,7,,0.1,,,{number}")),
            4 => (format!("users:u{number}|s|T{time}|c:ab|#other:x"), format!("users,s,,u{number},1,,,")),
            _ => {
                // Two values in one line.
                let _ = writeln!(rows, "{time},size,d,1,,1,\"\",,");
                (format!("size:1:2.25|d|T{time}|#env"), "size,d,2.25,,1,\"\",,".to_owned())
            }
        };
        lines.push(line);
        let _ = writeln!(rows, "{time},{row}");
    }
    (lines, rows)
}

#[test]
fn metrics_give_the_rows_of_their_lines() {
    let body = BODY.replace("max_delay", "unit = \"s\", max_delay");
    let job = Job::new(&body);
    let server = job.start(
        "stop = \"drain\"\ndata_dir = \"store\"",
        "[[sources]]\nstream = \"metrics\"\nstatsd = { udp = \"127.0.0.1:0\", tcp = \"127.0.0.1:0\", tags = { server = \"host\" } }\n",
    );
    let (by_datagram, mut rows) = metrics(0, 300);
    let (by_connection, more) = metrics(300, 500);
    rows.push_str(&more);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for packet in by_datagram.chunks(7) {
        socket.send_to(packet.join("\n").as_bytes(), server.at("statsd udp")).expect("sent");
    }
    // What is no metric of the stream is counted.
    socket.send_to(b"_e{5,4}:title|text\n\n_sc|name|0\nx:1|c|#size:big", server.at("statsd udp")).expect("sent");
    let mut connection = server.connect("statsd tcp");
    connection.write_all((by_connection.join("\r\n") + "\nrubbish\n").as_bytes()).expect("sent");
    // Not a word of when it has come; a stop takes in what has come before it.
    let ended = server.stop();
    assert_eq!(job.found(), job.expected("metrics", &format!("time,name,kind,value,text,rate,env,host,size\n{rows}")));
    let count = rows.lines().count();
    let ledger = ended.line_of("ledger");
    assert!(ledger.contains(&format!("received {} = aggregated {count} ", count + 4)), "{}", ended.stderr);
    assert!(ledger.contains("rejected 4 + shed 0"), "{}", ended.stderr);
    assert_eq!(ended.number_after("datagrams, "), Some(350), "{}", ended.stderr);
}

#[test]
fn metrics_without_a_time_have_the_time_of_their_arrival() {
    let job = Job::new(&BODY.replace("size = \"1m\"", "size = \"3650d\""));
    let way = "[[sources]]\nstream = \"metrics\"\nstatsd = { tcp = \"127.0.0.1:0\", columns = { text = \"env\" } }\n";
    let server = job.start("stop = \"drain\"\ndata_dir = \"store\"", way);
    server.tell("statsd tcp", b"a:1|c\na:2|c");
    let ended = server.stop();
    let found = job.found();
    let row = found.lines().nth(1).unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(row.ends_with(",a,c,,,2,3,1,,"), "{found}");
}
