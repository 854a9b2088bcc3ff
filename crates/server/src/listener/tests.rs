//! Stopping with clients connected, on real sockets and a clock that a test turns.

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::Timestamp;
use types::clock::{Clock, FakeClock};

use super::*;
use crate::body::Body;

struct Running {
    address: SocketAddr,
    clock: Arc<FakeClock>,
    handle: ListenerHandle,
    tracker: TaskTracker,
}

/// An answer that begins and never ends.
fn endless(stream: TcpStream) -> impl GracefulConnection<Error = hyper::Error> + Send {
    let service = service_fn(|_| async {
        let first = stream::iter([Bytes::from_static(b"first")]);
        let body = Body::pieces(futures_util::StreamExt::chain(first, stream::pending()));
        Ok::<_, Infallible>(Response::new(body))
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
}

async fn running(connections_max: usize) -> Running {
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let (handle, tracker) = (ListenerHandle::default(), TaskTracker::new());
    let accepting = Accepting {
        tcp: TcpListener::bind(("127.0.0.1", 0)).await.unwrap(),
        slots: Arc::new(Semaphore::new(connections_max)),
        clock: Arc::<FakeClock>::clone(&clock),
        tracker: tracker.clone(),
        handle: handle.clone(),
    };
    let address = accepting.tcp.local_addr().unwrap();
    tracker.spawn(accepting.run(endless));
    tracker.close();
    Running { address, clock, handle, tracker }
}

impl Running {
    /// A client in the middle of its answer.
    async fn busy(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"first\r\n") {
            assert!(client.read_buf(&mut seen).await.unwrap() > 0);
        }
        client
    }
}

/// The server has closed it.
async fn is_closed(mut client: TcpStream) -> bool {
    matches!(client.read(&mut [0; 64]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn what_is_busy_when_the_time_is_up_is_closed() {
    let server = running(4).await;
    let client = server.busy().await;
    server.handle.stop();
    tokio::select! {
        biased;
        () = server.tracker.wait() => {}
        () = async {
            loop {
                tokio::task::yield_now().await;
                server.clock.advance(Duration::from_secs(1));
            }
        } => {}
    }
    assert!(server.clock.now() >= Timestamp(10_000_000), "it was given its time");
    assert!(is_closed(client).await);
}

#[tokio::test]
async fn a_cut_closes_what_is_busy_at_once() {
    let server = running(4).await;
    let client = server.busy().await;
    server.handle.stop();
    server.handle.cut();
    server.tracker.wait().await;
    assert!(is_closed(client).await);
    assert_eq!(server.clock.now(), Timestamp(0));
}

#[tokio::test]
async fn a_server_stops_though_every_place_is_taken() {
    let server = running(1).await;
    let client = server.busy().await;
    let waiting = TcpStream::connect(server.address).await.unwrap();
    server.handle.stop();
    // Nobody is accepted any more while the busy one is given its time.
    assert!(is_closed(waiting).await);
    server.handle.cut();
    server.tracker.wait().await;
    assert!(is_closed(client).await);
}
