//! Requests over HTTP/1.1: connections, and what the server crate is told of limits.
//!
//! What a request asks for is in `requests`.

use super::Stop;
use super::requests::Site;
use crate::net::counts::Permit;
use futures_lite::future::or;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Most bytes of the head of a request, and of what is read ahead of a body.
const BUFFER_MAX: usize = 64 << 10;

/// Most headers of a request.
const HEADERS_MAX: usize = 100;

/// Serves one connection until its end; when the engine stops, until the request that is under way is answered.
pub async fn serve(socket: TcpStream, site: Arc<Site>, stop: Stop, permit: Permit) {
    // Answers are small, and someone waits for each.
    let _ = socket.set_nodelay(true);
    let of_service = Arc::clone(&site);
    let service = service_fn(move |request| {
        let site = Arc::clone(&of_service);
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    builder.header_read_timeout(site.limits.header_timeout);
    builder.max_buf_size(BUFFER_MAX);
    builder.max_headers(HEADERS_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let ended = or(async { Some(connection.as_mut().await) }, async {
        stop.wait().await;
        None
    });
    let ended = match ended.await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // An end between two requests is none; a head that does not come is.
        if error.is_timeout() || error.is_parse() {
            site.counts.refuse(&error.to_string());
        }
    }
    drop(permit);
}
