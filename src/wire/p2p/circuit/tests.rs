//! The worked bytes of the specification sheet, and what must not pass.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

/// Without the length before it.
fn unframed(framed: &[u8]) -> &[u8] {
    let length = prost::decode_length_delimiter(framed).unwrap();
    &framed[framed.len() - length..]
}

#[test]
fn requests_are_read_as_clients_write_them() {
    assert_eq!(read_hop(&bytes("08 00")), Ok(HopRequest::Reserve));
    let id = [7; 38];
    let connect = [&bytes("08 01 12 28 0a 26")[..], &id].concat();
    assert_eq!(read_hop(&connect), Ok(HopRequest::Connect { target: Bytes::copy_from_slice(&id) }));
}

#[test]
fn what_is_no_request_has_its_status() {
    for (message, status) in [
        ("", Status::MalformedMessage),
        ("08 03", Status::MalformedMessage),
        ("08 02", Status::UnexpectedMessage),
        ("08 01", Status::MalformedMessage),
        ("08 01 12 00", Status::MalformedMessage),
        ("08 01 12 02 0a 00", Status::MalformedMessage),
        ("ff ff", Status::MalformedMessage),
    ] {
        assert_eq!(read_hop(&bytes(message)), Err(status), "{message}");
    }
    let long = [&bytes("08 01 12 49 0a 47")[..], &[7; 71]].concat();
    assert_eq!(read_hop(&long), Err(Status::MalformedMessage));
}

#[test]
fn answers_have_the_bytes_of_the_sheet() {
    assert_eq!(hop_status(Status::NoReservation, Limit::default()), bytes("05 08 02 28 cc 01"));
    let limit = Limit { seconds: Some(120), bytes: Some(131_072) };
    assert_eq!(hop_status(Status::Ok, limit), bytes("0c 08 02 22 06 08 78 10 80 80 08 28 64"));
    let stop = [&bytes("34 08 00 12 28 0a 26")[..], &[9; 38], &bytes("1a 06 08 78 10 80 80 08")].concat();
    assert_eq!(stop_connect(&[9; 38], limit), stop);
}

#[test]
fn a_place_is_told_as_in_the_sheet_with_its_voucher() {
    let address = [&bytes("04 7f 00 00 01 06 36 b1 a5 03 26")[..], &[5; 38]].concat();
    let granted = Granted {
        expire: 1_795_271_152,
        addresses: vec![address.clone()],
        voucher: vec![1, 2, 3],
        limit: Limit { seconds: Some(120), bytes: Some(131_072) },
    };
    let head = bytes("4c 08 02 1a 3e 08 f0 d3 86 d8 06 12 31");
    let tail = bytes("1a 03 01 02 03 22 06 08 78 10 80 80 08 28 64");
    assert_eq!(hop_granted(&granted), [head, address, tail].concat());
}

#[test]
fn addresses_that_clients_could_not_read_are_left_out() {
    let granted =
        Granted { expire: 1, addresses: vec![vec![0; 100]; 200], voucher: vec![0; 200], limit: Limit::default() };
    let framed = hop_granted(&granted);
    let message = HopMessage::decode(unframed(&framed)).unwrap();
    assert!(framed.len() <= MAX_MESSAGE_BYTES + 2);
    let kept = message.reservation.unwrap().addrs.len();
    assert!((30..200).contains(&kept), "{kept}");
}

#[test]
fn answers_of_the_peer_that_is_reached_are_passed_on_by_rule() {
    for (message, passed) in [
        ("08 01 20 64", Ok(())),
        ("08 01 20 c9 01", Err(Status::ResourceLimitExceeded)),
        ("08 01 20 ca 01", Err(Status::PermissionDenied)),
        ("08 01 20 c8 01", Err(Status::UnexpectedMessage)),
        ("08 01 20 01", Err(Status::UnexpectedMessage)),
        ("08 01", Err(Status::UnexpectedMessage)),
        ("08 00 20 64", Err(Status::UnexpectedMessage)),
        ("07", Err(Status::MalformedMessage)),
    ] {
        assert_eq!(read_stop(&bytes(message)), passed, "{message}");
    }
}

#[test]
fn every_status_has_its_number() {
    for (status, code) in STATUSES {
        assert_eq!((status.code(), Status::from_code(code)), (code, Some(status)));
    }
    assert_eq!(Status::from_code(0), None);
}

proptest! {
    #[test]
    fn arbitrary_messages_are_read_or_refused(message: Vec<u8>) {
        if let Ok(HopRequest::Connect { target }) = read_hop(&message) {
            prop_assert!(!target.is_empty() && target.len() <= MAX_PEER_BYTES);
        }
        let _any = read_stop(&message);
    }
}
