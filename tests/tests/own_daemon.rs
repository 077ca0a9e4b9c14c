//! The example of a daemon with a hook of one's own (`demo/own_daemon`): it has the hook as it has the built-in ones.

use std::process::{Command, Output};

use hookbus_e2e::{Raw, Sandbox, binary};
use hookbus_proto::v1::{
    Event, EventBatch, Hello, client_frame::Frame, lr_hold::How, server_frame,
};

fn own_daemon(args: &[&str]) -> Output {
    let ran = Command::new(binary("own-daemon")).args(args).output();
    ran.expect("own-daemon runs")
}

#[test]
fn its_hook_is_listed_behind_the_built_in_ones_and_its_mistakes_name_it() {
    let listed = own_daemon(&["--list-hooks"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let of = |name: &str| listed.find(&format!("{name}: "));
    assert!(
        of("CheckInvalidLossHook") < of("ReduceOnPlateau") && of("CheckInvalidLossHook").is_some(),
        "{listed}"
    );
    let folder = tempfile::tempdir().expect("a directory");
    let config = folder.path().join("h.toml");
    for (line, says) in [
        (
            "factor = 2.0",
            "hooks[0] (ReduceOnPlateau): factor is 2; it must be between 0 and 1",
        ),
        ("patence = 3", "\"patence\""),
    ] {
        let toml = format!("[[hooks]]\ntype = \"ReduceOnPlateau\"\n{line}\n");
        std::fs::write(&config, toml).expect("written");
        let path = config.to_str().expect("a plain path");
        let refused = own_daemon(&["--config", path, "--check-config"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(says), "{says}: {said}");
    }
}

/// A batch of one event after_val_epoch with this loss.
fn epoch(n: u64, loss: f64) -> EventBatch {
    let event = Event {
        point: 0,
        epoch: n,
        iter: 10 * (n + 1),
        metrics: vec![0],
        values: vec![loss],
        ..Event::default()
    };
    EventBatch {
        first_seq: n + 1,
        events: vec![event],
        ..EventBatch::default()
    }
}

/// The next scale of the learning rate that is wanted.
async fn scale(raw: &mut Raw) -> (f64, String) {
    raw.until(|frame| match frame {
        server_frame::Frame::State(state) => {
            let lr = state.lr?;
            let hold = lr.holds.last().cloned()?;
            match hold.how {
                Some(How::Scale(scale)) => Some((scale, hold.by)),
                _ => None,
            }
        }
        _ => None,
    })
    .await
}

fn hello() -> Hello {
    Hello {
        points: vec!["after_val_epoch".into()],
        ..Raw::hello("digits", 0, 1, "s")
    }
}

#[tokio::test]
async fn it_decides_and_goes_on_from_what_it_knew_after_the_daemons_death() {
    let config =
        "[[hooks]]\ntype = \"ReduceOnPlateau\"\nmetric = \"loss\"\npatience = 1\nfactor = 0.5\n";
    let mut sandbox = Sandbox::of("own-daemon", config, Vec::new());
    let (mut raw, welcome) = Raw::attach(&sandbox.address(), hello()).await;
    let plan = welcome.plan.expect("a plan");
    let wished = plan.subscriptions.iter();
    let wished = wished.filter(|wish| wish.subscriber == "ReduceOnPlateau");
    let wished: Vec<_> = wished
        .map(|wish| (wish.point.as_str(), wish.fields.join(",")))
        .collect();
    assert_eq!(wished, [("after_val_epoch", "loss".to_owned())]);
    for (n, loss) in [1.0, 0.5, 0.6, 0.7].into_iter().enumerate() {
        raw.send(Frame::Batch(epoch(n as u64, loss))).await;
    }
    let by = "ReduceOnPlateau".to_owned();
    assert_eq!(scale(&mut raw).await, (0.5, by.clone()));
    raw.send(Frame::Batch(epoch(4, 0.8))).await;
    raw.until(|frame| match frame {
        server_frame::Frame::Ack(ack) => (ack.seq >= 5).then_some(()),
        _ => None,
    })
    .await;
    sandbox.kill();
    sandbox.restart();
    // The fifth value was one without a better one, the sixth is the second.
    let again = Hello {
        next_seq: 6,
        ..hello()
    };
    let (mut raw, _) = Raw::attach(&sandbox.address(), again).await;
    raw.send(Frame::Batch(epoch(5, f64::NAN))).await;
    raw.until(|frame| match frame {
        server_frame::Frame::State(state) => {
            let holds = state.lr.map(|lr| lr.holds).unwrap_or_default();
            let found = holds
                .iter()
                .any(|hold| hold.how == Some(How::Scale(0.25)) && hold.by == by);
            found.then_some(())
        }
        _ => None,
    })
    .await;
}
