//! Requests for vectors over a fake child.

use super::*;
use crate::protocol::pack;

async fn next_embed(stream: &mut UnixStream) -> Embed {
    match next(stream).await {
        Some(ToEngine::Embed(request)) => *request,
        other => panic!("not a request for vectors: {other:?}"),
    }
}

async fn vector(stream: &mut UnixStream, id: u64, index: u32, numbers: String) {
    write_async(stream, &FromEngine::Vector { id, index, numbers }).await.unwrap();
}

async fn embedded(stream: &mut UnixStream, id: u64) {
    write_async(stream, &FromEngine::Embedded { id, prompt_tokens: 5 }).await.unwrap();
}

fn request(texts: usize) -> Embed {
    let texts = vec!["text".to_owned(); texts];
    Embed { account: "default".to_owned(), texts, ..Embed::default() }
}

async fn whole(world: &World, texts: usize) -> Result<Embedded, Error> {
    world.engine.embed(request(texts), None).await?.whole().await
}

#[tokio::test]
async fn vectors_are_put_in_the_order_of_their_texts() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let id = next_embed(&mut stream).await.id;
        vector(&mut stream, id, 1, pack(&[0.0, 1.0])).await;
        vector(&mut stream, id, 0, pack(&[1.0, 0.0])).await;
        embedded(&mut stream, id).await;
        while next(&mut stream).await.is_some() {}
    });
    let vectors = vec![vec![1.0, 0.0], vec![0.0, 1.0]];
    assert_eq!(whole(&world, 2).await.unwrap(), Embedded { vectors, prompt_tokens: 5 });
}

#[tokio::test]
async fn what_is_no_vector_of_the_model_is_none() {
    let wrong = [
        (0, pack(&[1.0])),
        (0, pack(&[f32::NAN, 1.0])),
        (0, "no base64".to_owned()),
        (0, "AAAA".to_owned()),
        (7, pack(&[1.0, 0.0])),
    ];
    let world = world();
    world.launch.next(move |mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        for (index, numbers) in wrong {
            let id = next_embed(&mut stream).await.id;
            vector(&mut stream, id, index, numbers).await;
            assert_eq!(next(&mut stream).await, Some(ToEngine::Cancel { id }));
        }
        // And one that is left out.
        let id = next_embed(&mut stream).await.id;
        embedded(&mut stream, id).await;
        while next(&mut stream).await.is_some() {}
    });
    for _ in 0..6 {
        assert!(matches!(whole(&world, 1).await, Err(Error::Lost)));
    }
}

#[tokio::test]
async fn a_child_that_ends_fails_what_it_was_asked_and_who_goes_cancels() {
    let world = world();
    world.launch.next(|mut stream| async move {
        hello(&mut stream, PROTOCOL).await;
        let left = next_embed(&mut stream).await.id;
        assert_eq!(next(&mut stream).await, Some(ToEngine::Cancel { id: left }));
        let id = next_embed(&mut stream).await.id;
        vector(&mut stream, id, 0, pack(&[1.0, 0.0])).await;
    });
    drop(world.engine.embed(request(1), None).await.unwrap());
    assert!(matches!(whole(&world, 2).await, Err(Error::Lost)));
}

#[tokio::test]
async fn a_request_that_no_frame_holds_is_refused() {
    let world = world();
    world.launch.next(echo);
    let texts = vec!["\u{1}".repeat(8 * 1024 * 1024)];
    let request = Embed { texts, ..request(0) };
    let refused = world.engine.embed(request, None).await.unwrap().whole().await.unwrap_err();
    let Error::Refused(failure) = refused else { panic!("{refused:?}") };
    assert_eq!(
        (failure.code, failure.param.as_deref()),
        (FailureCode::InvalidRequest, Some("input"))
    );
}
