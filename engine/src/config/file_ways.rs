//! `sources.statsd`, `.influx`, `.ndjson`, `.arrow` and `.http` as they were typed.
//!
//! What the values mean is in `check::ways`.

use serde::Deserialize;
use toml::Spanned;

use super::file::{DurationText, FieldsTable, SizeText};

/// Keys that all ways in have, beside their own.
macro_rules! way_table {
    ($(#[$about:meta])* $name:ident { $($(#[$key_about:meta])* $key:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$key_about])* pub $key: $kind,)*
            /// Whether others than this machine may come although nothing is encrypted.
            pub insecure: Option<bool>,
            /// Most connections.
            pub connections_max: Option<Spanned<i64>>,
            /// Most connections from one address.
            pub connections_per_address_max: Option<Spanned<i64>>,
            /// How long a connection may be silent.
            pub silence_timeout: Option<Spanned<DurationText>>,
            /// Most bytes that wait.
            pub inbox_max: Option<Spanned<SizeText>>,
            /// When a small batch is sent.
            pub batch_age: Option<Spanned<DurationText>>,
        }
    };
}

way_table! {
    /// `sources.statsd`
    StatsdTable {
        /// Address and port.
        udp: Option<Spanned<String>>,
        /// Address and port.
        tcp: Option<Spanned<String>>,
        /// Parts of a metric and the fields that get them.
        columns: Option<FieldsTable>,
        /// Tags and the fields that get them.
        tags: Option<FieldsTable>,
        /// Most bytes of a line.
        line_size_max: Option<Spanned<SizeText>>,
        /// Bytes of datagrams that the system keeps.
        receive_buffer: Option<Spanned<SizeText>>,
    }
}

way_table! {
    /// `sources.influx`
    InfluxTable {
        /// Address and port.
        tcp: Option<Spanned<String>>,
        /// Address and port.
        http: Option<Spanned<String>>,
        /// Field that gets the measurement.
        measurement: Option<Spanned<String>>,
        /// Measurements that are for this stream.
        measurements: Option<Vec<Spanned<String>>>,
        /// Tags and fields, and the stream's fields that get them.
        columns: Option<FieldsTable>,
        /// Unit of times.
        precision: Option<Spanned<String>>,
        /// What a bad line does.
        on_error: Option<Spanned<String>>,
        /// Most bytes of a line.
        line_size_max: Option<Spanned<SizeText>>,
        /// Most bytes of a body.
        body_size_max: Option<Spanned<SizeText>>,
        /// Least bytes a second.
        byte_rate_min: Option<Spanned<SizeText>>,
        /// How long the head of a request may take.
        header_timeout: Option<Spanned<DurationText>>,
        /// How long a request waits for room.
        full_timeout: Option<Spanned<DurationText>>,
        /// How long a request waits for its acknowledgement.
        answer_timeout: Option<Spanned<DurationText>>,
        /// How far rows must have come.
        acknowledge: Option<Spanned<String>>,
        /// Tokens.
        token_file: Option<Spanned<String>>,
    }
}

way_table! {
    /// `sources.ndjson`
    NdjsonTable {
        /// Address and port.
        tcp: Spanned<String>,
        /// Texts that mean null.
        null: Option<Vec<String>>,
        /// What a bad line does.
        on_error: Option<Spanned<String>>,
        /// How far rows must have come.
        acknowledge: Option<Spanned<String>>,
        /// Most bytes of a line.
        line_size_max: Option<Spanned<SizeText>>,
    }
}

way_table! {
    /// `sources.arrow`
    ArrowTable {
        /// Address and port.
        tcp: Spanned<String>,
        /// Texts that mean null.
        null: Option<Vec<String>>,
        /// What a bad row does.
        on_error: Option<Spanned<String>>,
        /// How far rows must have come.
        acknowledge: Option<Spanned<String>>,
        /// Most bytes of a message.
        body_size_max: Option<Spanned<SizeText>>,
    }
}

way_table! {
    /// `sources.http`
    HttpTable {
        /// Address and port.
        listen: Spanned<String>,
        /// Texts that mean null.
        null: Option<Vec<String>>,
        /// What a bad row does.
        on_error: Option<Spanned<String>>,
        /// Most bytes of a line.
        line_size_max: Option<Spanned<SizeText>>,
        /// Most bytes of a body.
        body_size_max: Option<Spanned<SizeText>>,
        /// Least bytes a second.
        byte_rate_min: Option<Spanned<SizeText>>,
        /// How long the head of a request may take.
        header_timeout: Option<Spanned<DurationText>>,
        /// How long a request waits for room.
        full_timeout: Option<Spanned<DurationText>>,
        /// How long a request waits for its acknowledgement.
        answer_timeout: Option<Spanned<DurationText>>,
        /// How far rows must have come.
        acknowledge: Option<Spanned<String>>,
        /// Tokens.
        token_file: Option<Spanned<String>>,
    }
}
