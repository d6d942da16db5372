//! InfluxDB's line protocol over HTTP and over connections.

use crate::kit::Job;
use crate::support::{gzip, zstd_pack};
use std::fmt::Write as _;

const BODY: &str = r#"
[[streams]]
name = "weather"
time = { column = "time", unit = "us", max_delay = "1d", max_future = "1d" }
fields = { what = "string", place = "string", celsius = "f64", count = "i64", rain = "bool", note = "string" }

[[streams]]
name = "machines"
time = { column = "time", unit = "us", max_delay = "1d", max_future = "1d" }
fields = { load = "f64" }

[[views]]
name = "all"
stream = "weather"
by = ["what", "place", "rain"]
window = { size = "1m" }
aggregates = ["count(), sum(celsius), sum(count), distinct(note)"]
[[views.exports]]
file = { path = "OUT.csv" }

[[views]]
name = "loads"
stream = "machines"
window = { size = "1m" }
aggregates = ["count(), sum(load)"]
[[views.exports]]
file = { path = "OUT-loads.csv" }
"#;

const ENGINE: &str = "stop = \"drain\"\ndata_dir = \"store\"";

/// Lines with times in a unit of so many microseconds, and the rows that they stand for.
fn lines(first: i64, count: i64, unit_us: i64) -> (String, String) {
    let (mut lines, mut rows) = (String::new(), String::new());
    for number in first..first + count {
        let seconds = 1_704_067_200 + number % 600;
        let (time, micros) = (seconds * 1_000_000 / unit_us, seconds * 1_000_000);
        let rain = ["t", "false"][(number % 2) as usize];
        let _ = writeln!(
            lines,
            "air\\ x,place=P\\,{number},dropped=1 temp={number}.5,count={number}i,rain={rain},note=\"a \\\"{number}\\\"\" {time}"
        );
        let rain = ["true", "false"][(number % 2) as usize];
        let _ = writeln!(rows, "{micros},air x,\"P,{number}\",{number}.5,{number},{rain},\"a \"\"{number}\"\"\"");
    }
    (lines, rows)
}

const WAY: &str = "[[sources]]\nstream = \"weather\"\ninflux = { http = \"127.0.0.1:0\", tcp = \"127.0.0.1:0\", \
                   measurement = \"what\", columns = { temp = \"celsius\" } }\n";

#[test]
fn lines_give_their_rows_over_every_way() {
    let job = Job::new(BODY);
    let server = job.start(ENGINE, WAY);
    let mut rows = "time,what,place,celsius,count,rain,note\n".to_owned();
    // Times in nanoseconds are made by hand: their unit is less than a microsecond.
    let (plain, more) = lines(0, 100, 1);
    let nanos: String = plain.lines().map(|line| format!("{line}000\n")).collect();
    rows.push_str(&more);
    server.ask("POST /write?db=any", &[], nanos.as_bytes()).with(204);
    let ways = [("u", 1), ("us", 1), ("ms", 1_000), ("s", 1_000_000)];
    for (at, (precision, unit)) in ways.into_iter().enumerate() {
        let (text, more) = lines(100 + 50 * at as i64, 50, unit);
        rows.push_str(&more);
        let (header, body) = match at % 3 {
            0 => ("Content-Encoding: gzip", gzip(text.as_bytes())),
            1 => ("Content-Encoding: zstd", zstd_pack(text.as_bytes())),
            _ => ("X-Nothing: x", text.into_bytes()),
        };
        let path = format!("POST /api/v2/write?org=o&bucket=b&precision={precision}");
        server.ask(&path, &[header, "Authorization: Token anything"], &body).with(204);
    }
    let (plain, more) = lines(300, 200, 1);
    let nanos: Vec<String> = plain.lines().map(|line| format!("{line}000")).collect();
    rows.push_str(&more);
    // A bad line in between is left out and counted; the last line has no end.
    let text = format!("{}\nair temp=1,\n# a comment\n\n{}", nanos[..100].join("\n"), nanos[100..].join("\n"));
    let said = server.tell("influx tcp", text.as_bytes());
    assert_eq!(said, "{\"rejected\":1,\"rows\":200}\n");
    let ended = server.stop();
    assert_eq!(job.found(), job.expected("weather", &rows));
    assert!(ended.line_of("ledger").contains("received 501 = aggregated 500"), "{}", ended.stderr);
}

#[test]
fn a_body_with_a_bad_line_leaves_nothing_behind() {
    let job = Job::new(BODY);
    let server = job.start(ENGINE, WAY);
    for (body, line, column) in [
        ("air temp=1 1\nair temp=x 2\n", 2, 10),
        ("air temp=1 1\n\nair count=\"x\" 2\n", 3, 1),
        ("air temp=1 1\nair note=\"a\nb\" 2\nair\n", 4, 4),
    ] {
        let answer = server.ask("POST /write?precision=s", &[], body.as_bytes()).with(400);
        let json = answer.json();
        assert_eq!((&json["line"], &json["column"]), (&line.into(), &column.into()), "{body:?}: {json}");
        assert!(json["error"].as_str().is_some_and(|error| error.contains("unable to parse")), "{json}");
        assert_eq!(json["code"], "invalid");
    }
    server.ask("POST /write?precision=d", &[], b"air temp=1 1\n").with(400);
    server.ask("POST /write?precision=h", &[], b"air temp=1 9223372036854775807\n").with(400);
    let torn = gzip(b"air temp=1 1\n");
    server.ask("POST /write", &["Content-Encoding: gzip"], &torn[..torn.len() - 9]).with(400);
    server.ask("POST /write", &["Content-Encoding: br"], b"x").with(415);
    server.ask("POST /write", &[], b"").with(204);
    server.ask("GET /write", &[], b"").with(405);
    let ended = server.stop();
    assert!(ended.line_of("ledger").contains("received 0 = "), "{}", ended.stderr);
    assert_eq!(job.found().lines().count(), 1);
}

#[test]
fn measurements_choose_their_stream() {
    let job = Job::new(BODY);
    // One address for both: as it is named twice, it cannot be left to the system.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let ways = format!(
        "[[sources]]\nstream = \"machines\"\ninflux = {{ http = \"{free}\", measurements = [\"cpu\", \"gpu\"] }}\n\
         [[sources]]\nstream = \"weather\"\ninflux = {{ http = \"{free}\", measurement = \"what\" }}\n\
         [[sources]]\nstream = \"weather\"\nhttp = {{ listen = \"{free}\" }}\n"
    );
    let mut server = job.start(ENGINE, &ways);
    server.running.until(crate::kit::PATIENCE, "it listens", |running| running.said().contains("(http)"));
    let ask = |body: &str| {
        let mut socket = std::net::TcpStream::connect(free).expect("a connection");
        crate::kit::ask(&mut socket, "POST /write?precision=s", &[], body.as_bytes())
    };
    ask("cpu load=0.5 1704067200\nair celsius=3 1704067200\ngpu load=1i 1704067200\n").with(204);
    ask("cpu load=0.5 1704067201\nair celsius=\"x\" 1704067200\n").with(400);
    let ended = server.stop();
    assert_eq!(job.found().lines().nth(1), Some("2024-01-01T00:00:00Z,2024-01-01T00:01:00Z,air,,,1,3,,"));
    let loads = std::fs::read_to_string(job.path("out-loads.csv")).expect("results");
    assert_eq!(loads.lines().nth(1), Some("2024-01-01T00:00:00Z,2024-01-01T00:01:00Z,2,1.5"), "{}", ended.stderr);
}
