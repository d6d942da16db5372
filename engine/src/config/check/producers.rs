//! Rules of `[[producers]]` and of `sources.tcp.tls`: who may send, and what proves it.
//!
//! Files are not read here: they are looked at when an engine starts.

use toml::Spanned;

use super::Checker;
use super::streams::{Stream, stream_index};
use crate::config::file::{FileConfig, ProducerTable, TlsTable};
use crate::config::{ListenConfig, NamePattern, ProducerConfig, ProofConfig, TlsFiles};

/// Entries in the order of the file.
pub(super) fn producers(
    checker: &mut Checker<'_>,
    typed: &FileConfig,
    streams: &[Stream],
    listeners: &[ListenConfig],
) -> Vec<ProducerConfig> {
    let mut producers = Vec::new();
    for (index, table) in typed.producers.iter().enumerate() {
        let key = format!("producers[{index}]");
        let name = name(checker, &table.get_ref().name, &format!("{key}.name"));
        let proof = proof(checker, table, &key, name.as_ref(), listeners);
        let (Some(name), Some(proof)) = (name, proof) else { continue };
        let typed = table.get_ref();
        let rate = |checker: &mut Checker<'_>, given, name: &str| {
            let given: Option<&Spanned<i64>> = given;
            given.map(|given| checker.number(Some(given), &format!("{key}.{name}"), 1, 1..=1_000_000_000_000))
        };
        let bytes = typed.bytes_per_second.as_ref();
        producers.push(ProducerConfig {
            name,
            proof,
            streams: permitted(checker, typed, &key, streams),
            bytes_per_second: bytes
                .map(|given| checker.size(Some(given), &format!("{key}.bytes_per_second"), 1, 1..=1 << 40)),
            rows_per_second: rate(checker, typed.rows_per_second.as_ref(), "rows_per_second"),
            lanes_max: typed
                .lanes_max
                .as_ref()
                .map(|given| checker.number(Some(given), &format!("{key}.lanes_max"), 1, 1..=16_777_216)),
        });
    }
    if let Some(first) = typed.producers.first().filter(|_| listeners.is_empty()) {
        checker.note(first, "producers", "no source listens, so nobody can connect: no effect");
    }
    producers
}

/// Certificate and key of a listener.
pub(super) fn tls(checker: &Checker<'_>, table: &TlsTable) -> TlsFiles {
    let path = |text: &Spanned<String>| checker.base().join(text.get_ref());
    TlsFiles { cert: path(&table.cert), key: path(&table.key), client_ca: table.client_ca.as_ref().map(path) }
}

fn name(checker: &mut Checker<'_>, given: &Spanned<String>, key: &str) -> Option<NamePattern> {
    let text = given.get_ref();
    let pattern = NamePattern::parse(text).filter(|pattern| pattern.ends_in_star() && text.len() <= 256);
    if pattern.is_none() {
        let message = format!("`{text}` is not a producer's name; expected 1 to 256 bytes, a `*` only at the end");
        checker.fault(given, key, message);
    }
    pattern
}

fn proof(
    checker: &mut Checker<'_>,
    table: &Spanned<ProducerTable>,
    key: &str,
    name: Option<&NamePattern>,
    listeners: &[ListenConfig],
) -> Option<ProofConfig> {
    let typed = table.get_ref();
    match (&typed.token_file, &typed.token_sha256, &typed.certificate) {
        (Some(file), None, None) => {
            let path = checker.base().join(file.get_ref());
            Some(ProofConfig::TokenFile(path))
        }
        (None, Some(hash), None) => {
            let digest = digest(hash.get_ref());
            if digest.is_none() {
                let message = "expected the SHA-256 of the token in 64 hexadecimal digits, as sha256sum prints it";
                checker.fault(hash, &format!("{key}.token_sha256"), message);
            }
            digest.map(ProofConfig::TokenHash)
        }
        (None, None, Some(certificate)) => {
            let key = format!("{key}.certificate");
            let text = certificate.get_ref();
            let pattern = NamePattern::parse(text);
            let fits = pattern.as_ref().is_some_and(|pattern| !pattern.has_star() || name.is_none_or(|n| n.has_star()));
            if !fits {
                let message = format!(
                    "`{text}` is not a name in a certificate; expected a common name or DNS name, with one `*` at \
                     most, which stands for the same as the `*` at the end of `name`"
                );
                checker.fault(certificate, &key, message);
                return None;
            }
            let shows = |listener: &ListenConfig| listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
            if !listeners.iter().any(shows) {
                let message = "no source asks for certificates of clients, so nobody can show this one; give one of \
                               them `tls = { cert, key, client_ca }`";
                checker.fault(certificate, &key, message);
            }
            pattern.map(ProofConfig::Certificate)
        }
        _ => {
            let message =
                "expected one of `token_file`, `token_sha256` and `certificate`; for several, repeat the entry";
            checker.fault(table, key, message);
            None
        }
    }
}

fn permitted(checker: &mut Checker<'_>, typed: &ProducerTable, key: &str, streams: &[Stream]) -> Vec<usize> {
    let Some(names) = &typed.streams else { return (0..streams.len()).collect() };
    if names.get_ref().is_empty() {
        checker.fault(names, &format!("{key}.streams"), "a producer without streams can send nothing; leave it out");
    }
    let mut found = Vec::new();
    for (index, name) in names.get_ref().iter().enumerate() {
        found.extend(stream_index(checker, name, &format!("{key}.streams[{index}]"), streams));
    }
    found
}

/// 32 bytes from 64 hexadecimal digits.
fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use crate::config::{self, EngineConfig, NamePattern, ProofConfig};
    use std::path::Path;

    const HASH: &str = "bf855acfce7308303fdbd2e62e59e1b5441f66220963751fcea99a5536fef42b";

    fn parse(tcp: &str, producers: &str) -> Result<EngineConfig, String> {
        let text = format!(
            r#"
[engine]
shards = 2
[[streams]]
name = "a"
time = {{ column = "t" }}
fields = {{ x = "i64" }}
[[sources]]
stream = "a"
tcp = {{ {tcp} }}
[[views]]
name = "v"
stream = "a"
window = {{ size = "1h" }}
aggregates = ["count()"]
exports = [{{ file = {{ path = "v.csv" }} }}]
{producers}"#
        );
        config::parse(Path::new("/etc/c.toml"), &text).map_err(|errors| errors.to_string())
    }

    fn notes(config: &EngineConfig) -> Vec<&str> {
        config.notes.iter().map(|note| note.message.as_str()).collect()
    }

    const MUTUAL: &str = r#"listen = "10.0.0.1:7600", tls = { cert = "s.pem", key = "/s.key", client_ca = "ca.pem" }"#;
    const LOCAL: &str = r#"listen = "127.0.0.1:7600""#;

    #[test]
    fn every_key_of_producers_and_tls_arrives() {
        let entry = format!(
            "[[producers]]\nname = \"e-*\"\ncertificate = \"e-*.x\"\nstreams = [\"a\"]\nbytes_per_second = \"1MiB\"\n\
             rows_per_second = 9\nlanes_max = 3\n[[producers]]\nname = \"w\"\ntoken_sha256 = \"{HASH}\"\n\
             [[producers]]\nname = \"f\"\ntoken_file = \"f.token\"\n"
        );
        let config = parse(&format!("{MUTUAL}, shard_ports = 7610"), &entry).expect("valid");
        assert_eq!(notes(&config), [""; 0]);
        let listener = &config.listeners[0];
        let tls = listener.tls.as_ref().expect("tls");
        assert_eq!(listener.shard_ports, Some(7610));
        assert_eq!((tls.cert.as_path(), tls.key.as_path()), (Path::new("/etc/s.pem"), Path::new("/s.key")));
        assert_eq!(tls.client_ca.as_deref(), Some(Path::new("/etc/ca.pem")));
        let first = &config.producers[0];
        assert_eq!(first.name, NamePattern::parse("e-*").expect("a name"));
        assert_eq!((first.bytes_per_second, first.rows_per_second, first.lanes_max), (Some(1 << 20), Some(9), Some(3)));
        assert_eq!(first.streams, [0]);
        assert_eq!(first.proof, ProofConfig::Certificate(NamePattern::parse("e-*.x").expect("a name")));
        assert!(matches!(config.producers[1].proof, ProofConfig::TokenHash([0xBF, 0x85, ..])));
        assert_eq!(config.producers[2].proof, ProofConfig::TokenFile("/etc/f.token".into()));
        assert_eq!((&config.producers[2].streams[..], config.producers[2].lanes_max), (&[0][..], None));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let entry = |keys: &str| format!("[[producers]]\n{keys}\n");
        let token = "token_file = \"t\"";
        for (tcp, producers, words) in [
            (LOCAL, entry(&format!("name = \"a*b\"\n{token}")), "`*` only at the end"),
            (LOCAL, entry(&format!("name = \"\"\n{token}")), "is not a producer's name"),
            (LOCAL, entry("name = \"a\""), "expected one of `token_file`"),
            (LOCAL, entry(&format!("name = \"a\"\n{token}\ncertificate = \"a\"")), "expected one of `token_file`"),
            (LOCAL, entry("name = \"a\"\ntoken_sha256 = \"12\""), "64 hexadecimal digits"),
            (LOCAL, entry("name = \"a\"\ncertificate = \"a\""), "no source asks for certificates of clients"),
            (MUTUAL, entry("name = \"a\"\ncertificate = \"a-*\""), "is not a name in a certificate"),
            (MUTUAL, entry("name = \"a*\"\ncertificate = \"*-*\""), "is not a name in a certificate"),
            (LOCAL, entry(&format!("name = \"a\"\n{token}\nstreams = [\"b\"]")), "`b`"),
            (LOCAL, entry(&format!("name = \"a\"\n{token}\nstreams = []")), "can send nothing"),
            (LOCAL, entry(&format!("name = \"a\"\n{token}\nrows_per_second = 0")), "out of range"),
            (LOCAL, entry(&format!("name = \"a\"\n{token}\nzzz = 0")), "zzz"),
            ("listen = \"10.0.0.1:7600\"", String::new(), "give it `tls`"),
            ("listen = \"127.0.0.1:7600\", shard_ports = 65535", String::new(), "out of range; expected 1 to 65534"),
            ("listen = \"127.0.0.1:7600\", tls = { cert = \"c\" }", String::new(), "key"),
        ] {
            let errors = parse(tcp, &producers).expect_err(words);
            assert!(errors.contains(words), "no `{words}` in: {errors}");
        }
    }

    #[test]
    fn open_doors_and_open_secrets_are_noted() {
        let token = "[[producers]]\nname = \"a\"\ntoken_file = \"t\"\n";
        let open = r#"listen = "10.0.0.1:7600", tls = { cert = "s.pem", key = "s.key" }"#;
        for (tcp, producers, words) in [
            (open, "", "everybody who can reach 10.0.0.1:7600 may send, under any name"),
            (&format!("{MUTUAL}, insecure = true"), "", "nothing is insecure: no effect"),
            (r#"listen = "10.0.0.1:7600", insecure = true"#, token, "tokens travel unencrypted to 10.0.0.1:7600"),
        ] {
            let config = parse(tcp, producers).expect("valid");
            assert!(notes(&config).concat().contains(words), "no `{words}` in: {:?}", config.notes);
        }
        for (tcp, producers) in [(open, token), (MUTUAL, ""), (LOCAL, token), (LOCAL, "")] {
            assert_eq!(notes(&parse(tcp, producers).expect("valid")), [""; 0]);
        }
    }
}
