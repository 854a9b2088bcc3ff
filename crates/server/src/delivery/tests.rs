//! A client that does not read, on real sockets and a clock that a test turns.

use std::future::poll_fn;
use std::sync::atomic::AtomicBool;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use types::Timestamp;
use types::clock::FakeClock;

use super::*;

const PIECE: &[u8] = &[b'x'; 64 * 1024];

struct Pair {
    client: TcpStream,
    watched: Watched,
    deliveries: Deliveries,
    clock: Arc<FakeClock>,
}

async fn pair() -> Pair {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let deliveries = Deliveries::default();
    let watched = Watched::new(server, deliveries.clone(), Arc::<FakeClock>::clone(&clock));
    Pair { client, watched, deliveries, clock }
}

impl Pair {
    /// Writes until the socket takes no more, and waits from then on.
    async fn fill(&mut self) {
        let watched = &mut self.watched;
        loop {
            let written =
                poll_fn(|context| Poll::Ready(Pin::new(&mut *watched).poll_write(context, PIECE)));
            match written.await {
                Poll::Ready(written) => assert!(written.unwrap() > 0),
                Poll::Pending => return,
            }
        }
    }

    async fn write(&mut self) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut self.watched).poll_write(context, PIECE)).await
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let mut pair = pair().await;
    pair.fill().await;
    pair.clock.advance(WRITE_STALL - Duration::from_secs(1));
    pair.fill().await;
    pair.clock.advance(Duration::from_secs(1));
    let error = pair.write().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not() {
    let mut pair = pair().await;
    let mut taken = vec![0; 1024 * 1024];
    for _ in 0..3 {
        pair.fill().await;
        pair.clock.advance(WRITE_STALL - Duration::from_secs(1));
        // It takes as much as lets the socket take more.
        let (client, watched) = (&mut pair.client, &mut pair.watched);
        let reading = async {
            loop {
                assert!(client.read(&mut taken).await.unwrap() > 0);
            }
        };
        let writing = poll_fn(|context| Pin::new(&mut *watched).poll_write(context, PIECE));
        tokio::select! {
            biased;
            () = reading => {}
            written = writing => assert!(written.unwrap() > 0),
        }
    }
}

#[tokio::test]
async fn a_note_is_carried_out_by_the_flush_behind_it() {
    let mut pair = pair().await;
    let delivered = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&delivered);
    pair.write().await.unwrap();
    pair.deliveries.leave(Box::new(move || seen.store(true, Ordering::Release)));
    assert!(!delivered.load(Ordering::Acquire));
    poll_fn(|context| Pin::new(&mut pair.watched).poll_flush(context)).await.unwrap();
    assert!(delivered.load(Ordering::Acquire));
}
