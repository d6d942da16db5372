//! Rows of one stream: lines of JSON and Arrow over connections, and all forms of body over HTTP.

use crate::kit::Job;
use crate::support::{gzip, zstd_pack};
use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_ipc::writer::StreamWriter;
use std::fmt::Write as _;
use std::sync::Arc;

const BODY: &str = r#"
[[streams]]
name = "events"
time = { column = "time", max_delay = "1d", max_future = "1d" }
fields = { key = "string", value = "f64" }

[[views]]
name = "all"
stream = "events"
by = ["key"]
window = { size = "1m" }
aggregates = ["count(), sum(value)"]
[[views.exports]]
file = { path = "OUT.csv" }
"#;

const ENGINE: &str = "stop = \"drain\"\ndata_dir = \"store\"";

fn time(number: i64) -> String {
    format!("2024-01-01T00:{:02}:{:02}Z", number / 60 % 60, number % 60)
}

/// Rows of CSV without a header.
fn csv(first: i64, count: i64) -> String {
    (first..first + count).fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{},k{},{number}.25", time(number), number % 7);
        text
    })
}

fn json(first: i64, count: i64) -> String {
    (first..first + count).fold(String::new(), |mut text, number| {
        let _ = writeln!(
            text,
            "{{\"time\":\"{}\",\"more\":[1],\"key\":\"k{}\",\"value\":{number}.25}}",
            time(number),
            number % 7
        );
        text
    })
}

/// An Arrow stream of the same rows, a few to each record batch.
fn arrow(first: i64, count: i64, size: i64) -> Vec<u8> {
    let batch = |first: i64, count: i64| {
        let numbers = || first..first + count;
        let start = 1_704_067_200_000_000;
        let times: Vec<i64> = numbers().map(|number| start + (number % 3600) * 1_000_000).collect();
        let keys: Vec<String> = numbers().map(|number| format!("k{}", number % 7)).collect();
        let values: Vec<f64> = numbers().map(|number| number as f64 + 0.25).collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("value", Arc::new(Float64Array::from(values))),
            ("time", Arc::new(TimestampMicrosecondArray::from(times))),
            ("key", Arc::new(StringArray::from(keys))),
        ];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    };
    let schema = batch(0, 1).schema();
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).expect("a writer");
    for at in (first..first + count).step_by(size as usize) {
        writer.write(&batch(at, size.min(first + count - at))).expect("into memory");
    }
    writer.into_inner().expect("into memory")
}

#[test]
fn bodies_and_connections_of_every_form_give_their_rows() {
    let job = Job::new(BODY);
    let ways = "[[sources]]\nstream = \"events\"\nndjson = { tcp = \"127.0.0.1:0\" }\n\
                [[sources]]\nstream = \"events\"\narrow = { tcp = \"127.0.0.1:0\", acknowledge = \"written\" }\n\
                [[sources]]\nstream = \"events\"\nhttp = { listen = \"127.0.0.1:0\" }\n";
    let server = job.start(ENGINE, ways);
    let header = "time,key,value\n";
    let said = [
        server.ask("POST /streams/events", &[], json(0, 100).as_bytes()).with(200).body,
        server
            .ask("POST /streams/events", &["Content-Encoding: gzip"], &gzip(json(100, 100).as_bytes()))
            .with(200)
            .body,
        server
            .ask("POST /streams/events", &["Content-Encoding: zstd"], &zstd_pack(json(200, 100).as_bytes()))
            .with(200)
            .body,
        server
            .ask(
                "POST /streams/events",
                &["Content-Type: text/csv; charset=utf-8"],
                (header.to_owned() + &csv(300, 100)).as_bytes(),
            )
            .with(200)
            .body,
        server
            .ask("POST /streams/events", &["Content-Type: application/vnd.apache.arrow.stream"], &arrow(400, 100, 30))
            .with(200)
            .body,
        server.tell("ndjson tcp", json(500, 100).trim_end().as_bytes()),
        server.tell("arrow tcp", &arrow(600, 100, 9)),
    ];
    said.iter().for_each(|said| assert_eq!(said, "{\"rejected\":0,\"rows\":100}\n"));
    // More than one batch may have, and nothing at all.
    let many = server.ask("POST /streams/events", &[], json(700, 70_000).as_bytes()).with(200);
    assert_eq!(many.json()["rows"], 70_000);
    assert_eq!(server.tell("ndjson tcp", b"\n\n"), "{\"rejected\":0,\"rows\":0}\n");
    let ended = server.stop();
    assert_eq!(job.found(), job.expected("events", &(header.to_owned() + &csv(0, 70_700))));
    assert!(ended.line_of("ledger").contains("received 70700 = aggregated 70700"), "{}", ended.stderr);
    assert_eq!(ended.number_after("requests answered").or(ended.number_after("rows, ")), Some(6), "{}", ended.stderr);
}

#[test]
fn bad_rows_refuse_or_are_left_out() {
    let job = Job::new(BODY);
    let ways = |on_error: &str| {
        format!(
            "[[sources]]\nstream = \"events\"\nndjson = {{ tcp = \"127.0.0.1:0\", on_error = \"{on_error}\" }}\n\
             [[sources]]\nstream = \"events\"\narrow = {{ tcp = \"127.0.0.1:0\" }}\n\
             [[sources]]\nstream = \"events\"\nhttp = {{ listen = \"127.0.0.1:0\", on_error = \"{on_error}\" }}\n"
        )
    };
    let bad = format!("{}{{\"time\":\"x\"}}\n{}", json(0, 10), json(10, 5));
    let server = job.start("", &ways("fail"));
    let refused = server.ask("POST /streams/events", &[], bad.as_bytes()).with(400).json();
    assert_eq!(refused["line"], 11);
    assert!(refused["message"].as_str().is_some_and(|what| what.contains("`on_error = \"skip\"`")), "{refused}");
    // A connection keeps what came before the bad line.
    let told: serde_json::Value = serde_json::from_str(&server.tell("ndjson tcp", bad.as_bytes())).expect("JSON");
    assert_eq!((&told["rows"], &told["rejected"]), (&10.into(), &0.into()));
    assert!(told["error"].as_str().is_some_and(|what| what.contains("line:11:")), "{told}");
    for wrong in [&b"no arrow at all"[..], &arrow(0, 10, 5)[..300], &[0xff; 100]] {
        let told: serde_json::Value = serde_json::from_str(&server.tell("arrow tcp", wrong)).expect("JSON");
        assert!(told["error"].is_string(), "{told}");
    }
    server.ask("POST /streams/events", &["Content-Type: application/vnd.apache.arrow.stream"], b"no arrow").with(400);
    let ended = server.stop();
    assert!(ended.line_of("ledger").contains("received 10 = aggregated 10 "), "{}", ended.stderr);

    let server = job.start("", &ways("skip"));
    assert_eq!(
        server.ask("POST /streams/events", &[], bad.as_bytes()).with(200).body,
        "{\"rejected\":1,\"rows\":15}\n"
    );
    assert_eq!(server.tell("ndjson tcp", bad.as_bytes()), "{\"rejected\":1,\"rows\":15}\n");
    let ended = server.stop();
    assert!(
        ended.line_of("ledger").contains("received 32 = aggregated 30 + late 0 + duplicate 0 + rejected 2"),
        "{}",
        ended.stderr
    );
}

#[test]
fn requests_that_cannot_be_taken_are_told_why() {
    let job = Job::new(BODY);
    std::fs::write(job.path("tokens"), "# of this test\n  secret-1\n\nsecret-2\n").expect("a new file");
    let way = "[[sources]]\nstream = \"events\"\nhttp = { listen = \"127.0.0.1:0\", token_file = \"tokens\", \
               body_size_max = \"4KiB\", inbox_max = \"64KiB\", line_size_max = 64 }\n";
    let server = job.start("", way);
    let health = |answer: crate::kit::Answer| answer.status == 200;
    let began = std::time::Instant::now();
    while !health(server.ask("GET /health", &[], b"")) {
        assert!(began.elapsed() < crate::kit::PATIENCE, "it never becomes healthy");
    }
    assert!(server.ask("GET /ping", &[], b"").with(204).head.contains("x-influxdb-version: corefold"));
    let row = json(0, 1);
    let post = "POST /streams/events";
    assert!(server.ask(post, &[], row.as_bytes()).with(401).head.contains("www-authenticate"));
    server.ask(post, &["Authorization: Basic c2VjcmV0LTE="], row.as_bytes()).with(401);
    server.ask(post, &["Authorization: Bearer secret-3"], row.as_bytes()).with(403);
    let token = "Authorization: Bearer secret-2";
    server.ask(post, &["Authorization: token secret-1"], b"").with(200);
    assert!(server.ask("PUT /streams/events", &[token], row.as_bytes()).with(405).head.contains("allow: post"));
    let missing = server.ask("POST /streams/other", &[token], row.as_bytes()).with(404);
    assert!(missing.json()["message"].as_str().is_some_and(|what| what.contains("/streams/events")));
    server.ask("POST /write", &[token], b"m v=1").with(404);
    server.ask(post, &[token, "Content-Type: application/octet-stream"], row.as_bytes()).with(415);
    server.ask(post, &[token, "Content-Encoding: br"], row.as_bytes()).with(415);
    server.ask(post, &[token], json(0, 200).as_bytes()).with(413);
    server.ask(post, &[token, "Content-Encoding: gzip"], &gzip(json(0, 200).as_bytes())).with(413);
    let long = format!("{{\"time\":\"{}\",\"key\":\"{}\"}}", time(0), "x".repeat(80));
    let refused = server.ask(post, &[token], long.as_bytes()).with(400);
    assert!(refused.body.contains("longer than 64 bytes"), "{}", refused.body);
    let ended = server.stop();
    assert!(ended.line_of("ledger").contains("received 0 = "), "{}", ended.stderr);
}
