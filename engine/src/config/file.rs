//! The config file as it was typed: tables, keys and types, each value with its place.
//!
//! What the values mean, and whether they fit together, is not decided here; see `check`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value};
use toml::Spanned;

use super::choices::AutoOr;

/// The whole file.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// `[engine]`
    #[serde(default)]
    pub engine: EngineTable,
    /// `[wal]`
    #[serde(default)]
    pub wal: WalTable,
    /// `[snapshot]`
    pub snapshot: Option<Spanned<SnapshotTable>>,
    /// `[[streams]]`
    #[serde(default)]
    pub streams: Vec<Spanned<StreamTable>>,
    /// `[[sources]]`
    #[serde(default)]
    pub sources: Vec<Spanned<SourceTable>>,
    /// `[[producers]]`
    #[serde(default)]
    pub producers: Vec<Spanned<ProducerTable>>,
    /// `[[views]]`
    #[serde(default)]
    pub views: Vec<Spanned<ViewTable>>,
}

/// `[engine]`
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct EngineTable {
    /// Directory of everything durable.
    pub data_dir: Option<Spanned<String>>,
    /// How many shards.
    pub shards: Option<Spanned<AutoOr>>,
    /// Which core coordinates.
    pub coordinator_core: Option<Spanned<AutoOr>>,
    /// How often closed panes are pulled.
    pub pull_interval: Option<Spanned<DurationText>>,
    /// How long merged panes are kept.
    pub pane_retention: Option<Spanned<DurationText>>,
    /// How batches are spread.
    pub routing: Option<Spanned<String>>,
    /// Most rows per batch.
    pub batch_rows: Option<Spanned<i64>>,
    /// What a stop does with open windows.
    pub stop: Option<Spanned<String>>,
}

/// `[wal]`
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct WalTable {
    /// When an event counts as safe.
    pub durability: Option<Spanned<String>>,
    /// Size of one log file.
    pub segment_size: Option<Spanned<SizeText>>,
}

/// `[snapshot]`
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct SnapshotTable {
    /// Snapshot after this much log.
    pub wal_bytes: Option<Spanned<SizeText>>,
    /// Snapshot after this many batches.
    pub batches: Option<Spanned<i64>>,
}

/// `[[streams]]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct StreamTable {
    /// Its name.
    pub name: Spanned<String>,
    /// Its time column.
    pub time: Spanned<TimeTable>,
    /// Its typed fields.
    pub fields: Spanned<FieldsTable>,
}

/// `streams.time`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct TimeTable {
    /// Column that holds the event time.
    pub column: Spanned<String>,
    /// Unit of integer times.
    pub unit: Option<Spanned<String>>,
    /// How late events may come.
    pub max_delay: Option<Spanned<DurationText>>,
    /// How far events may lie ahead of the wall clock.
    pub max_future: Option<Spanned<DurationText>>,
    /// When a silent lane no longer holds up results.
    pub idle_timeout: Option<Spanned<DurationText>>,
}

/// `[[sources]]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct SourceTable {
    /// Stream that it feeds.
    pub stream: Spanned<String>,
    /// Files to read.
    pub file: Option<Spanned<SourceFileTable>>,
    /// Producers that connect.
    pub tcp: Option<Spanned<SourceTcpTable>>,
}

/// `sources.file`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct SourceFileTable {
    /// Paths, globs or `-`.
    pub path: Spanned<OneOrMany>,
    /// Format, when the extension does not tell.
    pub format: Option<Spanned<String>>,
    /// Texts that mean null.
    pub null: Option<Vec<String>>,
    /// What a bad row does.
    pub on_error: Option<Spanned<String>>,
    /// CSV field separator.
    pub delimiter: Option<Spanned<String>>,
}

/// `sources.tcp`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct SourceTcpTable {
    /// Address and port.
    pub listen: Spanned<String>,
    /// Whether others than this machine may connect although nothing is encrypted and nobody proves who he is.
    pub insecure: Option<Spanned<bool>>,
    /// What the server proves itself by, and its clients.
    pub tls: Option<Spanned<TlsTable>>,
    /// Port of the first shard; those of the others follow.
    pub shard_ports: Option<Spanned<i64>>,
    /// Most bytes of a batch.
    pub batch_size_max: Option<Spanned<SizeText>>,
    /// Most bytes that wait for a shard.
    pub inbox_max: Option<Spanned<SizeText>>,
    /// Most connections.
    pub connections_max: Option<Spanned<i64>>,
    /// Most connections from one address.
    pub connections_per_address_max: Option<Spanned<i64>>,
    /// Most lanes of one shard, connected or not.
    pub lanes_max: Option<Spanned<i64>>,
    /// How long a hello may take.
    pub hello_timeout: Option<Spanned<DurationText>>,
    /// How long a connection may be silent.
    pub silence_timeout: Option<Spanned<DurationText>>,
    /// Least bytes a second within a batch.
    pub byte_rate_min: Option<Spanned<SizeText>>,
}

/// `sources.tcp.tls`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct TlsTable {
    /// File of the certificate and those between it and its authority.
    pub cert: Spanned<String>,
    /// File of its private key.
    pub key: Spanned<String>,
    /// File of the authorities that sign certificates of clients.
    pub client_ca: Option<Spanned<String>>,
}

/// `[[producers]]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct ProducerTable {
    /// Name, or the beginning of names and a star.
    pub name: Spanned<String>,
    /// File of the token that proves it.
    pub token_file: Option<Spanned<String>>,
    /// SHA-256 of the token that proves it.
    pub token_sha256: Option<Spanned<String>>,
    /// Name in the certificate that proves it.
    pub certificate: Option<Spanned<String>>,
    /// Streams that may be sent.
    pub streams: Option<Spanned<Vec<Spanned<String>>>>,
    /// Most bytes a second.
    pub bytes_per_second: Option<Spanned<SizeText>>,
    /// Most rows a second.
    pub rows_per_second: Option<Spanned<i64>>,
    /// Most lanes.
    pub lanes_max: Option<Spanned<i64>>,
}

/// `[[views]]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct ViewTable {
    /// Its name.
    pub name: Spanned<String>,
    /// Stream that it reads.
    pub stream: Spanned<String>,
    /// Group columns.
    #[serde(default)]
    pub by: Vec<Spanned<String>>,
    /// Window shape.
    pub window: Spanned<WindowTable>,
    /// Aggregate expressions.
    pub aggregates: Spanned<Vec<Spanned<String>>>,
    /// Filter expression.
    #[serde(rename = "where")]
    pub filter: Option<Spanned<String>>,
    /// Most groups per pane.
    pub max_groups: Option<Spanned<i64>>,
    /// What happens past it.
    pub overflow: Option<Spanned<String>>,
    /// When an unseen group's slot may be reused.
    pub group_ttl: Option<Spanned<DurationText>>,
    /// `[[views.exports]]`
    #[serde(default)]
    pub exports: Vec<Spanned<ExportTable>>,
}

/// `views.window`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct WindowTable {
    /// Length of a window.
    pub size: Spanned<DurationText>,
    /// Distance between window starts.
    pub slide: Option<Spanned<DurationText>>,
    /// Shift of window borders against the epoch.
    pub offset: Option<Spanned<DurationText>>,
}

/// `[[views.exports]]`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct ExportTable {
    /// A file, or a directory of rotated files.
    pub file: Spanned<ExportFileTable>,
}

/// `views.exports.file`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct ExportFileTable {
    /// File, or directory ending in `/`.
    pub path: Spanned<String>,
    /// Format, when the extension does not tell.
    pub format: Option<Spanned<String>>,
    /// When to begin a new file.
    pub rotate: Option<Spanned<RotateTable>>,
}

/// `views.exports.file.rotate`
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct RotateTable {
    /// After this time.
    pub every: Option<Spanned<DurationText>>,
    /// After this many bytes.
    pub bytes: Option<Spanned<SizeText>>,
}

/// `streams.fields`: names and type names, in no particular order.
#[derive(Debug)]
pub struct FieldsTable(pub Vec<(String, Spanned<String>)>);

/// A duration, not yet read.
#[derive(Debug)]
pub struct DurationText(pub String);

/// A size, not yet read: a text, or a number of bytes.
#[derive(Debug)]
pub struct SizeText(pub String);

/// One text or a list of them.
#[derive(Debug)]
pub enum OneOrMany {
    /// `"a"`
    One(String),
    /// `["a", "b"]`
    Many(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for FieldsTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = FieldsTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of field names and types, such as { origin = \"string\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldsTable, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(FieldsTable(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes with its unit, such as \"100ms\", \"6h\" or \"1h30m\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<DurationText, E> {
                Ok(DurationText(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SizeText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a size in quotes such as \"64MiB\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<SizeText, E> {
                Ok(SizeText(text.to_owned()))
            }

            fn visit_i64<E>(self, bytes: i64) -> Result<SizeText, E> {
                Ok(SizeText(bytes.to_string()))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for AutoOr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl Visitor<'_> for Choice {
            type Value = AutoOr;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a whole number")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<AutoOr, E> {
                if text == "auto" {
                    return Ok(AutoOr::Auto);
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<AutoOr, E> {
                u32::try_from(number)
                    .map(AutoOr::Fixed)
                    .map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(value::SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Texts)
    }
}
