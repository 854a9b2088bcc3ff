//! A proxy with nothing in it: hyper on both sides, bytes passed on. What any gateway of this kind
//! costs at least.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpListener;

type Pool = Client<HttpConnector, Incoming>;

/// Serves until killed; prints its address first.
pub(crate) fn run(upstream: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("{}", json!({ "address": listener.local_addr()?.to_string() }));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool: Pool = Client::builder(TokioExecutor::new()).build(connector);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let pool = pool.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| pass(pool.clone(), upstream, request));
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that goes is the end of its connection.
                connection.serve_connection(TokioIo::new(stream), service).await.unwrap_or(());
            });
        }
    })
}

async fn pass(
    pool: Pool,
    upstream: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Either<Incoming, Empty<Bytes>>>, Infallible> {
    let uri = format!("http://{upstream}{}", request.uri().path()).parse::<Uri>();
    let Ok(uri) = uri else { return Ok(failed(StatusCode::BAD_REQUEST)) };
    *request.uri_mut() = uri;
    match pool.request(request).await {
        Ok(response) => Ok(response.map(Either::Left)),
        Err(_) => Ok(failed(StatusCode::BAD_GATEWAY)),
    }
}

fn failed(status: StatusCode) -> Response<Either<Incoming, Empty<Bytes>>> {
    let mut response = Response::new(Either::Right(Empty::new()));
    *response.status_mut() = status;
    response
}
