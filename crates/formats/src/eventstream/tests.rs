//! Frames, whole and hostile.

use proptest::prelude::*;

use super::*;

const HEADERS: [(&str, &str); 2] = [(":message-type", "event"), (":event-type", "messageStop")];

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&HEADERS, payload, &mut out);
    out.to_vec()
}

/// Every frame of these bytes, and how they end.
fn read(bytes: &[u8], chunk: usize) -> (Vec<Frame>, Result<bool, Broken>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in bytes.chunks(chunk.max(1)) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(broken) => return (frames, Err(broken)),
            }
        }
    }
    let holds = decoder.holds();
    (frames, Ok(holds))
}

/// With both checksums made anew.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let prelude = crc32fast::hash(&bytes[..8]).to_be_bytes();
    bytes[8..12].copy_from_slice(&prelude);
    let end = bytes.len() - 4;
    let all = crc32fast::hash(&bytes[..end]).to_be_bytes();
    bytes[end..].copy_from_slice(&all);
    bytes
}

#[test]
fn the_specifications_own_frame_is_read_and_written() {
    // An empty frame: sixteen bytes. <https://smithy.io/2.0/aws/amazon-eventstream.html>
    let empty = [0, 0, 0, 0x10, 0, 0, 0, 0, 0x05, 0xc2, 0x48, 0xeb, 0x7d, 0x98, 0xc8, 0xff];
    let (frames, end) = read(&empty, 16);
    assert_eq!((frames.len(), end), (1, Ok(false)));
    assert!(frames[0].payload.is_empty());
    let mut out = BytesMut::new();
    write(&[], &[], &mut out);
    assert_eq!(out[..], empty);
}

#[test]
fn a_frame_is_the_one_that_amazons_own_client_reads() {
    // Read by botocore's `EventStreamBuffer` as these headers and this payload.
    let known = "0000007a00000051ca2c46650b3a6576656e742d7479706507000b6d65737361676553746f700d3a\
                 636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d657373616765\
                 2d747970650700056576656e747b2273746f70526561736f6e223a22656e645f7475726e227d5fbf\
                 09fc";
    let headers = [
        (":event-type", "messageStop"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    let mut out = BytesMut::new();
    write(&headers, br#"{"stopReason":"end_turn"}"#, &mut out);
    assert_eq!(data_encoding::HEXLOWER.encode(&out), known);
}

#[test]
fn frames_come_out_as_they_went_in_however_they_are_cut() {
    let stream = [frame(b"{}"), frame(b""), frame(b"{\"x\":1}")].concat();
    for chunk in [1, 2, 7, 50, 1_000] {
        let (frames, end) = read(&stream, chunk);
        assert_eq!(end, Ok(false));
        let payloads: Vec<&[u8]> = frames.iter().map(|frame| &frame.payload[..]).collect();
        assert_eq!(payloads, [&b"{}"[..], b"", b"{\"x\":1}"]);
        assert_eq!(frames.iter().flat_map(|frame| frame.raw.clone()).collect::<Vec<u8>>(), stream);
        assert_eq!(frames[0].header(":event-type"), "messageStop");
        assert_eq!(frames[0].header(":none"), "");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let whole = frame(b"{\"stopReason\":\"end_turn\"}");
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (frames, end) = read(&bytes, whole.len());
        assert_eq!((frames.len(), end), (0, Err(Broken::Malformed)), "bit {bit}");
    }
}

#[test]
fn nothing_is_kept_for_a_length_that_may_not_be() {
    let of = |total: usize, headers: usize| {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&u32::try_from(total).unwrap().to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(headers).unwrap().to_be_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        read(&bytes, 12).1
    };
    assert_eq!(of(FRAME_BYTES_MAX, 0), Ok(true));
    assert_eq!(of(FRAME_BYTES_MAX + 1, 0), Err(Broken::TooLarge));
    assert_eq!(of(FRAME_BYTES_MAX, HEADERS_BYTES_MAX + 1), Err(Broken::TooLarge));
    assert_eq!(of(u32::MAX as usize, u32::MAX as usize), Err(Broken::TooLarge));
    assert_eq!(of(15, 0), Err(Broken::Malformed));
    assert_eq!(of(100, 85), Err(Broken::Malformed));
    assert_eq!(of(100, 84), Ok(true));
}

#[test]
fn headers_of_every_type_are_passed_over_and_half_ones_are_refused() {
    let with = |block: &[u8]| {
        let mut bytes = vec![0; 12];
        bytes.extend_from_slice(block);
        bytes.extend_from_slice(&[0; 4]);
        let total = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[..4].copy_from_slice(&total);
        bytes[4..8].copy_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
        read(&sealed(bytes), 1_000)
    };
    let values: [&[u8]; 9] = [
        &[0],
        &[1],
        &[2, 9],
        &[3, 9, 9],
        &[4, 9, 9, 9, 9],
        &[5, 1, 2, 3, 4, 5, 6, 7, 8],
        &[6, 0, 2, 9, 9],
        &[8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    ];
    let mut all = Vec::new();
    for value in values {
        let block = [&[1, b'a'], value].concat();
        assert_eq!(with(&block).1, Ok(false), "{value:?}");
        assert_eq!(with(&block[..block.len() - 1]).1, Err(Broken::Malformed), "{value:?}");
        all.extend(block);
    }
    all.extend([1, b't', 7, 0, 1, b'x']);
    let (frames, _) = with(&all);
    assert_eq!(frames[0].header("t"), "x");
    assert_eq!(with(&[1, b'a', 10]).1, Err(Broken::Malformed));
    assert_eq!(with(&[1, b't', 7, 255, 255, b'x']).1, Err(Broken::Malformed));
    assert_eq!(with(&[1, b'a', 0].repeat(HEADERS_MAX)).1, Ok(false));
    assert_eq!(with(&[1, b'a', 0].repeat(HEADERS_MAX + 1)).1, Err(Broken::Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_frames_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        chunk in 1usize..64,
    ) {
        let _read = read(&bytes, chunk);
    }

    /// Behind right checksums everything else may be wrong.
    #[test]
    fn any_sealed_bytes_are_frames_or_refused(
        block in prop::collection::vec(any::<u8>(), 0..60),
        headers in 0u32..80,
    ) {
        let mut bytes = vec![0; 12];
        bytes.extend(block);
        bytes.extend([0; 4]);
        let total = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        bytes[..4].copy_from_slice(&total);
        bytes[4..8].copy_from_slice(&headers.to_be_bytes());
        let (frames, _) = read(&sealed(bytes), 1_000);
        prop_assert!(frames.len() <= 1);
    }
}
