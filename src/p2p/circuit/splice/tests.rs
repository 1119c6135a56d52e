//! Both ways of a circuit over pipes in memory.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use proptest::prelude::*;
use tokio::io::DuplexStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::*;
use crate::p2p::circuit::limits::tests::limits;

type Pipe = Compat<DuplexStream>;

/// The far ends of a circuit whose near ends are spliced: source, target, and what becomes of it, with what it carried.
fn circuit(limits: CircuitLimits, pipe: usize) -> (Pipe, Pipe, tokio::task::JoinHandle<(End, u64)>) {
    let ((source, near_source), (target, near_target)) = (tokio::io::duplex(pipe), tokio::io::duplex(pipe));
    let spliced = tokio::spawn(async move {
        let meter = Counter::default();
        let end = splice(near_source.compat(), near_target.compat(), &limits, &meter).await;
        (end, meter.get())
    });
    (source.compat(), target.compat(), spliced)
}

async fn everything(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_way_that_is_closed_leaves_the_other_open() {
    let (mut source, mut target, spliced) = circuit(limits(), 64);
    source.write_all(b"question").await.unwrap();
    source.close().await.unwrap();
    let mut asked = Vec::new();
    target.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, b"question");
    target.write_all(b"a long answer").await.unwrap();
    target.close().await.unwrap();
    assert_eq!(everything(source).await, b"a long answer");
    let (end, carried) = spliced.await.unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(carried, 8 + 13);
}

#[tokio::test]
async fn a_side_that_does_not_read_holds_up_only_its_own_way() {
    let (source, target, _spliced) = circuit(limits(), 64);
    let (mut from_source, mut to_source) = source.split();
    let (mut from_target, mut to_target) = target.split();
    // Nobody reads what the target says: the pipes and what is kept fill, and no more is taken.
    let stuck = tokio::spawn(async move { to_target.write_all(&vec![7; 1 << 20]).await });
    let asking = tokio::spawn(async move { to_source.write_all(&[1; 500]).await });
    let mut other_way = [0; 500];
    from_target.read_exact(&mut other_way).await.unwrap();
    asking.await.unwrap().unwrap();
    assert_eq!(other_way, [1; 500]);
    assert!(!stuck.is_finished());
    let reader = tokio::spawn(async move {
        let mut all = vec![0; 1 << 20];
        from_source.read_exact(&mut all).await.map(|()| all)
    });
    assert!(reader.await.unwrap().unwrap().iter().all(|byte| *byte == 7));
    stuck.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_circuit_ends_with_what_it_may_carry() {
    let limited = CircuitLimits { bytes: Some(100), ..limits() };
    let (mut source, mut target, spliced) = circuit(limited, 64);
    source.write_all(&[1; 60]).await.unwrap();
    target.read_exact(&mut [0; 60]).await.unwrap();
    // Just as much as it may.
    source.write_all(&[1; 40]).await.unwrap();
    target.read_exact(&mut [0; 40]).await.unwrap();
    source.write_all(&[1]).await.unwrap();
    let (end, carried) = spliced.await.unwrap();
    assert!(matches!(end, End::TooMuch), "{end:?}");
    assert_eq!(carried, 100);
    assert_eq!(target.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_circuit_ends_when_its_time_is_up() {
    let limited = CircuitLimits { duration: Some(Duration::from_millis(10)), ..limits() };
    let (_source, _target, spliced) = circuit(limited, 64);
    assert!(matches!(spliced.await.unwrap().0, End::TooLong));
}

#[tokio::test]
async fn a_circuit_on_which_nothing_moves_ends_where_a_limit_says_so() {
    let limited = CircuitLimits { idle: Some(Duration::from_millis(10)), ..limits() };
    let (_source, _target, spliced) = circuit(limited, 64);
    assert!(matches!(spliced.await.unwrap().0, End::Stuck));
}

#[tokio::test]
async fn a_rate_slows_a_circuit_and_loses_nothing() {
    let limited = CircuitLimits { rate: NonZeroU32::new(10_000_000), ..limits() };
    let (source, target, spliced) = circuit(limited, 4096);
    let sent = 4_000_000;
    let (mut from_source, mut to_source) = source.split();
    let writer = tokio::spawn(async move {
        to_source.write_all(&vec![3; sent]).await.unwrap();
        to_source.close().await.unwrap();
    });
    let (from_target, mut to_target) = target.split();
    to_target.close().await.unwrap();
    assert_eq!(everything(from_target).await.len(), sent);
    writer.await.unwrap();
    assert_eq!(from_source.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(spliced.await.unwrap().1, sent as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bytes_come_out_as_they_went_in(
        out in proptest::collection::vec(any::<u8>(), 0..5000),
        back in proptest::collection::vec(any::<u8>(), 0..5000),
        pipe in 1usize..2000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (came_out, came_back) = runtime.block_on(async {
            let (source, target, _spliced) = circuit(limits(), pipe);
            let ((from_source, mut to_source), (from_target, mut to_target)) = (source.split(), target.split());
            let (out, back) = (out.clone(), back.clone());
            let write_out = tokio::spawn(async move {
                to_source.write_all(&out).await.unwrap();
                to_source.close().await.unwrap();
            });
            let write_back = tokio::spawn(async move {
                to_target.write_all(&back).await.unwrap();
                to_target.close().await.unwrap();
            });
            let all = futures::future::join(everything(from_target), everything(from_source)).await;
            write_out.await.unwrap();
            write_back.await.unwrap();
            all
        });
        prop_assert_eq!(came_out, out);
        prop_assert_eq!(came_back, back);
    }
}
