//! What requests ask for and what comes of it: lines of InfluxDB, rows of one stream, health.
//!
//! A body is parsed as a whole before any row of it goes on, so that a refused one leaves nothing behind. Sockets are in
//! `http`, bodies in `body`.

use super::Stop;
use super::answers::{Answer, Trouble, empty_answer, json_answer};
use super::body::{Packing, Room, collect, unpack};
use super::counts::WayCounts;
use super::lines::{JsonLines, TextFault};
use super::points::{LineOptions, PointsTo, add_lines};
use super::rows::Rows;
use super::wall;
use super::worker::{LaneHandle, Parcel};
use crate::config::ways::{Precision, WayLimits};
use crate::guard::catch;
use crate::source::error::SourceError;
use crate::source::input::{Compression, Format, Input};
use crate::source::parser::Parser;
use crate::source::plan::ReadPlan;
use crate::source::{ArrowStream, open};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use std::io::Cursor;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// A stream that takes bodies of its own.
pub struct StreamTo {
    /// Its name.
    pub name: String,
    /// How bodies are read.
    pub read: Arc<ReadPlan>,
    /// Where rows go.
    pub lane: LaneHandle,
}

/// One address.
pub struct Site {
    /// Streams that take bodies of their own.
    pub streams: Vec<StreamTo>,
    /// Streams that take lines of InfluxDB, and their lanes.
    pub points: Vec<PointsTo>,
    /// See `points`.
    pub point_lanes: Vec<LaneHandle>,
    /// What it may cost.
    pub limits: WayLimits,
    /// Tokens, one of which must be shown; `None`: none is asked for.
    pub tokens: Option<Vec<String>>,
    /// Room for bodies, in steps.
    pub room: Arc<Semaphore>,
    /// How many bodies are unpacked and parsed at a time.
    pub parsers: Semaphore,
    /// What became of it all.
    pub counts: Arc<WayCounts>,
    /// Whether the engine stops.
    pub stop: Stop,
}

/// Rows of one body, and what became of lines that were left out.
struct Parsed {
    rows: Vec<Rows>,
    first: Option<String>,
}

impl Site {
    /// Answers a request.
    pub async fn answer(self: &Arc<Site>, request: Request<Incoming>) -> Answer {
        let answered = self.route(request).await;
        answered.unwrap_or_else(|trouble| {
            self.counts.refuse(&format!("{}: {}", trouble.status(), trouble.message()));
            trouble.answer()
        })
    }

    async fn route(self: &Arc<Site>, request: Request<Incoming>) -> Result<Answer, Trouble> {
        let path = request.uri().path().to_owned();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match path.as_str() {
            "/health" if is_read => return self.health(),
            "/ping" if is_read => return Ok(empty_answer()),
            "/health" | "/ping" => return Err(Trouble::method("GET, HEAD")),
            _ => {}
        }
        let stream = path.strip_prefix("/streams/");
        let stream = stream.and_then(|name| self.streams.iter().position(|stream| stream.name == name));
        let is_points = matches!(path.as_str(), "/write" | "/api/v2/write") && !self.points.is_empty();
        if stream.is_none() && !is_points {
            return Err(Trouble::no_path(&path, &self.paths()));
        }
        if *request.method() != Method::POST {
            return Err(Trouble::method("POST"));
        }
        self.check_token(request.headers())?;
        if self.stop.is_set() {
            return Err(Trouble::stopping());
        }
        match stream {
            Some(stream) => self.take_stream(request, stream).await,
            None => self.take_points(request).await,
        }
    }

    fn paths(&self) -> Vec<String> {
        let streams = self.streams.iter().map(|stream| format!("/streams/{}", stream.name));
        let points: &[&str] = if self.points.is_empty() { &[] } else { &["/write", "/api/v2/write"] };
        let points = points.iter().map(|path| (*path).to_owned());
        streams.chain(points).chain(["/health".to_owned(), "/ping".to_owned()]).collect()
    }

    fn health(&self) -> Result<Answer, Trouble> {
        let lanes = self.streams.iter().map(|stream| &stream.lane).chain(&self.point_lanes);
        if self.stop.is_set() {
            return Err(Trouble::health("the engine stops"));
        }
        if !lanes.into_iter().all(LaneHandle::is_open) {
            return Err(Trouble::health("the engine is starting"));
        }
        let body = json!({ "name": "corefold", "message": "ready for writes", "status": "pass" });
        Ok(json_answer(StatusCode::OK, &body))
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Trouble> {
        let Some(tokens) = &self.tokens else { return Ok(()) };
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(Trouble::no_token)?;
        let (scheme, token) = shown.split_once(' ').ok_or_else(Trouble::no_token)?;
        if !["bearer", "token"].contains(&scheme.to_ascii_lowercase().as_str()) {
            return Err(Trouble::no_token());
        }
        // All are looked at, each to its end, so that the time tells nothing of them.
        let known =
            tokens.iter().fold(false, |known, other| known | is_same(other.as_bytes(), token.trim().as_bytes()));
        if known { Ok(()) } else { Err(Trouble::wrong_token()) }
    }

    async fn take_stream(self: &Arc<Site>, request: Request<Incoming>, stream: usize) -> Result<Answer, Trouble> {
        let form = Form::of(request.headers())?;
        let parse = move |site: &Site, text: Vec<u8>| site.streams[stream].parse(form, text, &site.limits);
        let (parsed, permit) = self.parse(request, parse).await?;
        let lanes = [&self.streams[stream].lane];
        let (rows, rejected) = self.hand_over(parsed, &lanes, permit).await?;
        Ok(json_answer(StatusCode::OK, &json!({ "rows": rows, "rejected": rejected })))
    }

    async fn take_points(self: &Arc<Site>, request: Request<Incoming>) -> Result<Answer, Trouble> {
        let query = request.uri().query().unwrap_or_default();
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("precision="));
        let precision = match asked.filter(|name| !name.is_empty()) {
            None => self.points.first().map_or(Precision::default(), |to| to.map().precision),
            Some(name) => Precision::by_name(name).ok_or_else(|| Trouble::precision(name))?,
        };
        let parse = move |site: &Site, text: Vec<u8>| {
            let options = LineOptions {
                precision,
                now: wall(),
                skips: site.points.iter().all(|to| to.map().http_skips),
                line_size_max: site.limits.line_size_max as usize,
            };
            let mut rows: Vec<Rows> = site.points.iter().map(PointsTo::rows).collect();
            let (_, first) = add_lines(&text, 1, &options, &site.points, &mut rows)?;
            Ok(Parsed { rows, first: first.map(|fault| fault.to_string()) })
        };
        let (parsed, permit) = self.parse(request, parse).await?;
        let lanes: Vec<&LaneHandle> = self.point_lanes.iter().collect();
        self.hand_over(parsed, &lanes, permit).await?;
        Ok(empty_answer())
    }

    /// Reads, unpacks and parses a body, off the thread that waits for sockets.
    async fn parse(
        self: &Arc<Site>,
        request: Request<Incoming>,
        parse: impl FnOnce(&Site, Vec<u8>) -> Result<Parsed, Trouble> + Send + 'static,
    ) -> Result<(Parsed, Option<Arc<OwnedSemaphorePermit>>), Trouble> {
        let packing = Packing::of(request.headers())?;
        let mut room = Room::new(&self.room, self.limits.full_timeout);
        let packed = collect(request.into_body(), &self.limits, &mut room).await?;
        let _turn = self.parsers.acquire().await.map_err(|_| Trouble::stopping())?;
        let max = self.limits.body_size_max as usize;
        let text = away(move || unpack(packing, packed, max)).await?;
        room.grow(text.len()).await?;
        let site = Arc::clone(self);
        let parsed = away(move || parse(&site, text)).await?;
        Ok((parsed, room.into_permit()))
    }

    /// Gives rows to their lanes and waits until all have come as far as was asked for.
    async fn hand_over(
        &self,
        mut parsed: Parsed,
        lanes: &[&LaneHandle],
        permit: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Result<(u64, u64), Trouble> {
        let (mut rows, mut rejected, mut told) = (0, 0, Vec::new());
        for (lane, of_lane) in lanes.iter().zip(&mut parsed.rows) {
            let (more, bad) = of_lane.counts();
            (rows, rejected) = (rows + more, rejected + bad);
            for columns in of_lane.take() {
                let (receipt, word) = oneshot::channel();
                let parcel = Parcel { columns, room: permit.clone(), receipt: Some(receipt) };
                lane.put(parcel).map_err(|_| if told.is_empty() { Trouble::stopping() } else { Trouble::unknown() })?;
                told.push(word);
            }
        }
        drop(permit);
        if let Some(first) = parsed.first {
            self.counts.reject(rejected, &first);
        }
        let all = async {
            for word in told {
                match word.await {
                    Ok(Ok(())) => {}
                    Ok(Err(what)) => return Err(Trouble::rows(&what)),
                    Err(_) => return Err(Trouble::unknown()),
                }
            }
            Ok(())
        };
        tokio::time::timeout(self.limits.answer_timeout, all).await.map_err(|_| Trouble::unknown())??;
        self.counts.answered.add(1);
        Ok((rows, rejected))
    }
}

/// Runs what takes the processor away from the thread that waits for sockets. A panic is the body's doing.
async fn away<T: Send + 'static>(body: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Result<T, Trouble> {
    let ran = tokio::task::spawn_blocking(move || catch(body)).await;
    match ran {
        Ok(Ok(result)) => result,
        Ok(Err(what)) => Err(Trouble::broken(&what)),
        Err(_) => Err(Trouble::stopping()),
    }
}

fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differs = one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b));
    one.len() == other.len() && differs == 0
}

/// What a body of rows is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Json,
    Csv,
    Arrow,
}

impl Form {
    /// By the header. What `curl` says if it is told nothing stands for JSON.
    fn of(headers: &HeaderMap) -> Result<Form, Trouble> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Form::Json) };
        let value = value.to_str().unwrap_or_default();
        let name = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "application/x-ndjson"
            | "application/ndjson"
            | "application/jsonl"
            | "application/json"
            | "text/plain"
            | "application/x-www-form-urlencoded"
            | "" => Ok(Form::Json),
            "text/csv" => Ok(Form::Csv),
            "application/vnd.apache.arrow.stream" => Ok(Form::Arrow),
            _ => Err(Trouble::form(value)),
        }
    }
}

impl StreamTo {
    fn parse(&self, form: Form, text: Vec<u8>, limits: &WayLimits) -> Result<Parsed, Trouble> {
        let plan = self.lane.plan();
        let mut rows = Rows::new(&plan.fields, plan.batch_rows);
        let first = match form {
            Form::Json => {
                let mut lines = JsonLines::new("line", &self.read, limits.line_size_max as usize);
                lines.add(&text, 1, &mut rows)?.map(|fault| fault.what)
            }
            Form::Csv | Form::Arrow => {
                let read = self.read_chunks(form, text, limits.body_size_max as usize, &mut rows);
                read.map_err(|error| Trouble::from(TextFault::of(&error)))?
            }
        };
        Ok(Parsed { rows: vec![rows], first })
    }

    fn read_chunks(
        &self,
        form: Form,
        text: Vec<u8>,
        size_max: usize,
        rows: &mut Rows,
    ) -> Result<Option<String>, SourceError> {
        let mut parser = Parser::new(Arc::clone(&self.read));
        let bytes = Box::new(Cursor::new(text));
        let mut take = |chunk| {
            let mut columns = rows.empty();
            parser.parse(&chunk, &mut columns)?;
            rows.add(columns);
            Ok(())
        };
        if form == Form::Arrow {
            let mut stream = ArrowStream::open("body", bytes, &self.read, size_max)?;
            while let Some(chunk) = stream.next_chunk()? {
                take(chunk)?;
            }
        } else {
            let input = Input::from_reader("body", Format::Csv, Compression::None, bytes);
            let mut lane = open(&input, &self.read, 0)?;
            while let Some(chunk) = lane.next(Vec::new())? {
                take(chunk)?;
            }
        }
        Ok(parser.take_first_rejection().map(|rejection| TextFault::of(&rejection).what))
    }
}
