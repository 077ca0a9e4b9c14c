//! Memory over time, and a run that is watched, against the real daemon.

use std::time::Duration;

use hookbus_client::inspect::{InspectError, Inspector, proto};
use hookbus_e2e::{Raw, Sandbox};
use hookbus_proto::v1::client_frame::Frame;
use hookbus_proto::v1::history_request::Range;
use proto::{HistoryReply, HistoryRequest, IterRange, Series, SnapshotReply};

const PATIENCE: Duration = Duration::from_secs(30);

async fn inspector(sandbox: &Sandbox) -> Inspector {
    Inspector::connect(&sandbox.address(), Duration::from_secs(10))
        .await
        .expect("the daemon answers")
}

fn iters(from: u64, to: Option<u64>) -> HistoryRequest {
    let range = IterRange {
        from: Some(from),
        to,
    };
    HistoryRequest {
        run: "past".to_owned(),
        range: Some(Range::Iters(range)),
        ..HistoryRequest::default()
    }
}

fn series<'a>(reply: &'a HistoryReply, name: &str) -> Option<&'a Series> {
    let mut named = reply.series.iter().filter(|series| series.name == name);
    let found = named.next();
    assert!(named.next().is_none(), "{name} is there once");
    found
}

/// Asks at each look until it is so.
async fn until(
    sandbox: &Sandbox,
    asked: HistoryRequest,
    is_so: impl Fn(&HistoryReply) -> bool,
) -> HistoryReply {
    let mut inspector = inspector(sandbox).await;
    let mut looks = inspector
        .watch("past", Duration::from_millis(100))
        .await
        .expect("it is watched");
    let asking = async {
        loop {
            let reply = inspector.history(asked.clone()).await.expect("an answer");
            if is_so(&reply) {
                return reply;
            }
            looks.next().await.expect("healthy").expect("it goes on");
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("it is so in time")
}

#[tokio::test]
async fn memory_is_asked_for_by_iteration_and_outlives_the_daemon() {
    let mut sandbox = Sandbox::with_config("[journal]\nsample_ms = 100\n");
    let (raw, _) = Raw::attach(&sandbox.address(), Raw::hello("past", 0, 1, "s")).await;
    raw.send(Frame::Batch(Raw::losses(1, &[1.0]))).await;
    let enough = |reply: &HistoryReply, name: &str| {
        series(reply, name).is_some_and(|series| series.points.len() >= 3)
    };
    until(&sandbox, iters(0, Some(0)), |reply| {
        enough(reply, "process_rss_bytes") && enough(reply, "host_used_bytes")
    })
    .await;
    raw.send(Frame::Batch(Raw::losses(2, &[1.0; 10]))).await;
    let reply = until(&sandbox, iters(10, None), |reply| {
        enough(reply, "process_rss_bytes") && enough(reply, "host_used_bytes")
    })
    .await;
    for name in ["process_rss_bytes", "host_used_bytes"] {
        let series = series(&reply, name).expect("it is there");
        let resolution = (series.resolution_s, series.unit.as_str());
        assert_eq!(resolution, (0.1, "bytes"), "{name}");
        for point in &series.points {
            assert_eq!(point.iter, Some(10), "{name}: {point:?}");
            assert!(point.readings > 0 && point.min > 0.0, "{name}: {point:?}");
            assert!(point.min <= point.mean && point.mean <= point.max);
        }
        let ages: Vec<_> = series.points.iter().map(|point| point.age_s).collect();
        assert!(ages.is_sorted_by(|a, b| a > b), "{name}: {ages:?}");
    }
    assert_eq!(reply.older_unknown, "");
    let mut looking = inspector(&sandbox).await;
    let reply = looking.history(iters(11, None)).await.expect("an answer");
    assert!(reply.series.iter().all(|series| series.points.is_empty()));
    let few = HistoryRequest {
        names: vec!["process_rss_bytes".to_owned()],
        max_points: 2,
        run: "past".to_owned(),
        ..HistoryRequest::default()
    };
    let reply = looking.history(few.clone()).await.expect("an answer");
    assert_eq!(reply.series.len(), 1);
    assert!((1..=2).contains(&reply.series[0].points.len()));
    let wrong = HistoryRequest {
        names: vec!["memory".to_owned()],
        ..few.clone()
    };
    match looking.history(wrong).await {
        Err(InspectError::Refused(text)) => assert!(text.contains("process_rss_bytes"), "{text}"),
        other => panic!("{other:?}"),
    }
    // What the journal has by then is all that another daemon knows.
    let written = async {
        loop {
            let mut rows = looking.rows("past", "samples", None).await.expect("asked");
            let mut known = 0;
            while let Some(part) = rows.next().await.expect("it can be read") {
                let text = |row: &proto::Row| format!("{row:?}").contains("process_rss_bytes");
                known += part.rows.iter().filter(|row| text(row)).count();
            }
            if known >= 2 {
                return known;
            }
        }
    };
    let known = tokio::time::timeout(PATIENCE, written)
        .await
        .expect("it is");
    drop(raw);
    sandbox.kill();
    sandbox.restart();
    let many = HistoryRequest {
        max_points: 0,
        ..few
    };
    let reply = inspector(&sandbox).await.history(many).await;
    let reply = reply.expect("an answer");
    let points = &reply.series[0].points;
    assert!(points.len() >= known, "{} of {known}", points.len());
    let known = |point: &&proto::SeriesPoint| point.readings == 1 && point.mean > 0.0;
    let unknown = |point: &&proto::SeriesPoint| point.readings == 0 && !point.unknown.is_empty();
    assert!(points.iter().filter(known).count() > 0);
    assert!(points.iter().all(|point| known(&point) || unknown(&point)));
    assert_eq!(points[0].iter.map(|iter| iter <= 10), Some(true));
}

/// Without what is another number a moment later.
fn settled(mut reply: SnapshotReply) -> SnapshotReply {
    for rank in &mut reply.ranks {
        rank.memory = None;
        rank.last_heard_s = 0.0;
    }
    if let Some(run) = &mut reply.run {
        run.age_s = 0.0;
    }
    for incident in &mut reply.incidents {
        incident.age_s = 0.0;
    }
    reply.host = None;
    reply.gpus.clear();
    reply.probes.clear();
    reply.at_unix_s = 0.0;
    reply.missed = 0;
    reply
}

#[tokio::test]
async fn what_a_viewer_puts_together_is_the_snapshot() {
    let sandbox = Sandbox::start();
    let hello = |rank| proto::Hello {
        hooks: vec![Raw::hook("CheckInvalidLossHook", "interval", 1)],
        ..Raw::hello("seen", rank, 3, &format!("s{rank}"))
    };
    let (first, _) = Raw::attach(&sandbox.address(), hello(0)).await;
    let mut inspector = inspector(&sandbox).await;
    let mut looks = inspector
        .watch("seen", Duration::from_millis(100))
        .await
        .expect("it is watched");
    let mut ranks = vec![first];
    let mut whole = async |events: u64, ranks: usize| {
        let looking = async {
            loop {
                let seen = looks.next().await.expect("healthy").expect("it goes on");
                assert!(!seen.changes);
                let now = inspector.snapshot("seen").await.expect("it is there");
                let there = seen.ranks.len() == ranks
                    && seen.ranks.iter().all(|rank| rank.events == events);
                if there && settled(seen) == settled(now) {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("it becomes equal");
    };
    whole(0, 1).await;
    for rank in 1..3 {
        ranks.push(Raw::attach(&sandbox.address(), hello(rank)).await.0);
    }
    whole(0, 3).await;
    for raw in &ranks {
        raw.send(Frame::Batch(Raw::losses(1, &[1.0, f64::INFINITY])))
            .await;
    }
    whole(2, 3).await;
}
