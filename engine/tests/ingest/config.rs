//! What the config may say of ways in, and what it is told where that makes no sense.

use corefold_engine::config::ways::{InfluxMap, Precision, StatsdMap, Transport, WayLimits, WayProtocol};
use corefold_engine::config::{self, EngineConfig};
use corefold_shards::session::Level;
use std::path::Path;
use std::time::Duration;

fn parse(source: &str) -> Result<EngineConfig, String> {
    let text = format!(
        r#"
[[streams]]
name = "a"
time = {{ column = "t" }}
fields = {{ name = "string", value = "f64", env = "string", n = "i64" }}
[[streams]]
name = "b"
time = {{ column = "t" }}
fields = {{ n = "i64" }}
[[views]]
name = "v"
stream = "a"
window = {{ size = "1h" }}
aggregates = ["count()"]
{source}"#
    );
    config::parse(Path::new("c.toml"), &text)
        .map_err(|errors| errors.errors().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

#[test]
fn ways_arrive() {
    let config = parse(
        r#"
[[sources]]
stream = "a"
statsd = { udp = "127.0.0.1:8125", tcp = "127.0.0.1:8126", columns = { text = "env" }, tags = { "host.name" = "n" } }
[[sources]]
stream = "a"
influx = { http = "127.0.0.1:8086", measurement = "env", measurements = ["m"], columns = { x = "value" }, precision = "ms", on_error = "skip", acknowledge = "written", token_file = "keys" }
"#,
    )
    .expect("valid");
    let [statsd, influx] = &config.ways[..] else { panic!("{:?}", config.ways) };
    let named = |names: &[(&str, usize)]| names.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect::<Vec<_>>();
    let map = StatsdMap {
        name: Some(0),
        value: Some(1),
        text: Some(2),
        tags: named(&[("host.name", 3)]),
        ..StatsdMap::default()
    };
    assert_eq!((statsd.stream, &statsd.protocol), (0, &WayProtocol::Statsd(map)));
    let listens: Vec<(Transport, u16)> = statsd.listens.iter().map(|(how, at)| (*how, at.port())).collect();
    assert_eq!(listens, [(Transport::Udp, 8125), (Transport::Tcp, 8126)]);
    assert_eq!(statsd.limits, WayLimits::default());
    let map = InfluxMap {
        measurement: Some(2),
        measurements: vec!["m".to_owned()],
        columns: named(&[("n", 3), ("name", 0), ("x", 1)]),
        precision: Precision::Millis,
        http_skips: true,
        tcp_skips: true,
    };
    assert_eq!(influx.protocol, WayProtocol::Influx(map));
    assert_eq!(
        (influx.limits.acknowledge, influx.limits.token_file.as_deref()),
        (Level::Written, Some(Path::new("keys")))
    );
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = parse("[[sources]]\nstream = \"b\"\narrow = { tcp = \"127.0.0.1:1\" }").expect("valid");
    let limits = &config.ways[0].limits;
    assert_eq!(*limits, WayLimits { connections_max: 64, ..WayLimits::default() });
    let WayLimits { silence_timeout, batch_age, header_timeout, full_timeout, answer_timeout, .. } = limits;
    assert_eq!((silence_timeout.as_secs(), batch_age.as_millis(), header_timeout.as_secs()), (300, 50, 5));
    assert_eq!((*full_timeout, *answer_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!((limits.line_size_max, limits.body_size_max, limits.inbox_max), (64 << 10, 16 << 20, 32 << 20));
    assert_eq!((limits.receive_buffer, limits.byte_rate_min), (4 << 20, 1024));
}

#[test]
fn faults_are_named_with_their_place() {
    let two =
        |one: &str, other: &str| format!("[[sources]]\nstream = \"a\"\n{one}\n[[sources]]\nstream = \"b\"\n{other}\n");
    for (source, says) in [
        ("stream = \"a\"\nstatsd = {}".to_owned(), "sources[0].statsd: where it listens is missing: `udp`, `tcp`"),
        ("stream = \"b\"\nstatsd = { udp = \"127.0.0.1:1\" }".to_owned(), "no field for the number of a metric"),
        (
            "stream = \"a\"\nstatsd = { udp = \"127.0.0.1:1\", columns = { value = \"n\" } }".to_owned(),
            "of type i64; expected f64",
        ),
        (
            "stream = \"a\"\nstatsd = { udp = \"127.0.0.1:1\", columns = { vlaue = \"n\" } }".to_owned(),
            "did you mean `value`?",
        ),
        (
            "stream = \"a\"\nstatsd = { udp = \"127.0.0.1:1\", tags = { x = \"nam\" } }".to_owned(),
            "did you mean `name`?",
        ),
        (
            "stream = \"a\"\nstatsd = { udp = \"127.0.0.1:1\", tags = { x = \"env\", y = \"env\" } }".to_owned(),
            "gets another part already",
        ),
        (
            "stream = \"a\"\nstatsd = { udp = \"0.0.0.0:1\" }".to_owned(),
            "c.toml:17:18: sources[0].statsd.udp: at 0.0.0.0:1 everyone",
        ),
        ("stream = \"a\"\ninflux = { tcp = \"x\" }".to_owned(), "is not an address with a port"),
        (
            "stream = \"a\"\ninflux = { tcp = \"127.0.0.1:1\", measurement = \"value\" }".to_owned(),
            "a measurement is a text",
        ),
        ("stream = \"a\"\ninflux = { tcp = \"127.0.0.1:1\", precision = \"d\" }".to_owned(), "unknown precision `d`"),
        ("stream = \"a\"\nndjson = { tcp = \"127.0.0.1:1\", on_error = \"x\" }".to_owned(), "unknown policy `x`"),
        (
            "stream = \"a\"\nndjson = { tcp = \"127.0.0.1:1\", acknowledge = \"never\" }".to_owned(),
            "unknown level `never`",
        ),
        ("stream = \"a\"\nndjson = { tcp = \"127.0.0.1:1\", lines = 1 }".to_owned(), "line_size_max"),
        (
            "stream = \"a\"\narrow = { tcp = \"127.0.0.1:1\", body_size_max = \"64MiB\" }".to_owned(),
            "no room for one body",
        ),
        ("stream = \"a\"\nhttp = { listen = \"127.0.0.1:1\", batch_age = \"0s\" }".to_owned(), "batch_age"),
        ("stream = \"a\"\nhttp = { listen = \"127.0.0.1:1\", token_file = \"\" }".to_owned(), "the path is empty"),
        (
            "stream = \"a\"\nhttp = { listen = \"127.0.0.1:1\" }\ntcp = { listen = \"127.0.0.1:2\" }".to_owned(),
            "a source is either `tcp` or `http`",
        ),
        ("stream = \"c\"\nhttp = { listen = \"127.0.0.1:1\" }".to_owned(), "unknown stream `c`"),
    ] {
        let said = parse(&format!("[[sources]]\n{source}")).expect_err(&source);
        assert!(said.contains(says), "{source}: {said}");
    }
    for (one, other, says) in [
        ("ndjson = { tcp = \"127.0.0.1:1\" }", "arrow = { tcp = \"127.0.0.1:1\" }", "is taken by another source"),
        (
            "http = { listen = \"127.0.0.1:1\" }",
            "http = { listen = \"127.0.0.1:1\", full_timeout = \"1s\" }",
            "other limits",
        ),
        ("influx = { http = \"127.0.0.1:1\" }", "influx = { http = \"127.0.0.1:1\" }", "takes all measurements"),
        (
            "influx = { http = \"127.0.0.1:1\", measurements = [\"m\"] }",
            "influx = { http = \"127.0.0.1:1\", measurements = [\"m\"] }",
            "the measurement `m` is given to another stream",
        ),
    ] {
        let said = parse(&two(one, other)).expect_err(one);
        assert!(said.contains(says), "{one}: {said}");
    }
    let twice = two("http = { listen = \"127.0.0.1:1\" }", "")
        .replace("stream = \"b\"\n", "stream = \"a\"\nhttp = { listen = \"127.0.0.1:1\" }");
    assert!(parse(&twice).expect_err("twice").contains("in this way already"));
    assert!(parse(&two("http = { listen = \"127.0.0.1:1\" }", "http = { listen = \"127.0.0.1:1\" }")).is_ok());
}

#[test]
fn the_example_is_sound() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/metrics.toml");
    let config = config::load(Path::new(path)).expect("valid");
    assert_eq!(config.ways.len(), 4);
    crate::support::process::run(&mut crate::support::process::corefold(&["check", path])).succeeded();
}
