//! What a request is answered: success, or what is wrong, in the shape that clients of InfluxDB read and anyone can.
//!
//! How it comes to an answer is in `requests`.

use super::lines::TextFault;
use super::points::LineFault;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    status: StatusCode,
    /// The word of InfluxDB 2 for it.
    code: &'static str,
    message: String,
    line: Option<u64>,
    column: Option<usize>,
    allow: Option<&'static str>,
}

impl Trouble {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Trouble {
        Trouble { status, code, message: message.into(), line: None, column: None, allow: None }
    }

    /// Number of its status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A path that nothing is at.
    pub fn no_path(path: &str, known: &[String]) -> Trouble {
        let known = known.join(", ");
        Trouble::new(StatusCode::NOT_FOUND, "not found", format!("nothing is at `{path}`; there are: {known}"))
    }

    /// A method that the path does not have.
    pub fn method(allow: &'static str) -> Trouble {
        let trouble = Trouble::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", format!("expected {allow}"));
        Trouble { allow: Some(allow), ..trouble }
    }

    /// No token where one is asked for.
    pub fn no_token() -> Trouble {
        let message = "a token is needed: `Authorization: Bearer TOKEN` or `Authorization: Token TOKEN`";
        Trouble::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// A token that is not known.
    pub fn wrong_token() -> Trouble {
        Trouble::new(StatusCode::FORBIDDEN, "forbidden", "the token is not known here")
    }

    /// A packing that is not known.
    pub fn packing(name: &str) -> Trouble {
        let message = format!("the Content-Encoding `{name}` is not known; known are gzip and zstd");
        Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported media type", message)
    }

    /// A form that is not known.
    pub fn form(name: &str) -> Trouble {
        let message = format!(
            "the Content-Type `{name}` is not known; known are application/x-ndjson, text/csv and \
             application/vnd.apache.arrow.stream"
        );
        Trouble::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported media type", message)
    }

    /// A precision that is not known.
    pub fn precision(name: &str) -> Trouble {
        let message = format!("the precision `{name}` is not known; known are ns, us, ms, s, m, h");
        Trouble::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// More than a body may have, packed or unpacked.
    pub fn too_large(max: usize) -> Trouble {
        let message = format!("the body has more than {max} bytes; send less at a time");
        Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, "request too large", message)
    }

    /// No room for now.
    pub fn full() -> Trouble {
        Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "there is no room now; send it again later")
    }

    /// Nobody takes it any more.
    pub fn stopping() -> Trouble {
        Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the engine stops; nothing of it was taken")
    }

    /// It was taken, but what has become of it is not known.
    pub fn unknown() -> Trouble {
        let message = "it is not known whether the rows are safe; sent again they may count twice";
        Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// The engine is not there yet, or not any more.
    pub fn health(message: &str) -> Trouble {
        Trouble::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// A body that comes too slowly.
    pub fn slow() -> Trouble {
        Trouble::new(StatusCode::REQUEST_TIMEOUT, "request timeout", "the body comes too slowly")
    }

    /// A body that does not come whole.
    pub fn broken(what: &str) -> Trouble {
        Trouble::new(StatusCode::BAD_REQUEST, "invalid", format!("the body does not come whole: {what}"))
    }

    /// A body that is not packed as it says.
    pub fn unpacking(what: &str) -> Trouble {
        Trouble::new(StatusCode::BAD_REQUEST, "invalid", format!("the body cannot be unpacked: {what}"))
    }

    /// Rows that do not fit where they should go.
    pub fn rows(what: &str) -> Trouble {
        Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, "request too large", what)
    }

    /// The answer.
    pub fn answer(&self) -> Answer {
        let mut body = Map::new();
        body.insert("code".to_owned(), json!(self.code));
        body.insert("message".to_owned(), json!(self.message));
        // The same for clients of InfluxDB 1.
        body.insert("error".to_owned(), json!(self.message));
        if let Some(line) = self.line {
            body.insert("line".to_owned(), json!(line));
        }
        if let Some(column) = self.column {
            body.insert("column".to_owned(), json!(column));
        }
        let mut answer = json_answer(self.status, &Value::Object(body));
        let headers = answer.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

impl From<LineFault> for Trouble {
    fn from(fault: LineFault) -> Trouble {
        let message = format!("unable to parse: {fault}; nothing of the body was taken");
        let trouble = Trouble::new(StatusCode::BAD_REQUEST, "invalid", message);
        Trouble { line: Some(fault.line), column: Some(fault.column), ..trouble }
    }
}

impl From<TextFault> for Trouble {
    fn from(fault: TextFault) -> Trouble {
        let message = format!("{}; nothing of the body was taken", fault.what);
        Trouble { line: fault.line, ..Trouble::new(StatusCode::BAD_REQUEST, "invalid", message) }
    }
}

/// An answer with a body.
pub fn json_answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// An answer without a body.
pub fn empty_answer() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
        .headers_mut()
        .insert("x-influxdb-version", HeaderValue::from_static(concat!("corefold-", env!("CARGO_PKG_VERSION"))));
    answer
}
