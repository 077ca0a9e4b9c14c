//! Many ranks of one run, from one process: `ranks ADDRESS RANKS GATES`. Each rank emits ten events an iteration and asks a
//! gate in the last one; the ranks take turns, so that what is measured is a gate beside the traffic of the others. Prints a
//! line of JSON: median and p99 of a gate in microseconds, and gates without an answer in time. Says `ready` on a line before,
//! and waits for a line of input, so that others can come in.

use std::io::BufRead;
use std::time::{Duration, Instant};

use hookbus_client::{Given, Options, Session, Signal, attach};

const SLICE: Duration = Duration::from_millis(50);
/// So many iterations of every rank are not counted.
const WARM: usize = 2;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [address, ranks, gates] = args.as_slice() else {
        panic!("ranks ADDRESS RANKS GATES");
    };
    let ranks: u32 = ranks.parse().expect("RANKS is a number");
    let gates: usize = gates.parse().expect("GATES is a number");
    let sessions: Vec<Session> = (0..ranks)
        .map(|rank| {
            let mut options = Options::new("ranks", Some(address)).expect("an address");
            options.identity.launch = "bench".to_owned();
            options.identity.rank = rank;
            options.identity.world_size = ranks;
            options.timeout = Duration::from_secs(60);
            attach(options)
        })
        .collect();
    let nan = f64::NAN;
    let mut times = Vec::new();
    for session in &sessions {
        let before = session.point("before_train").expect("a point");
        while session.emit(before, &Given::default(), &[], &[]) == Signal::Prepare {
            session.prepare(SLICE);
        }
    }
    println!("ready");
    std::io::stdin()
        .lock()
        .read_line(&mut String::new())
        .expect("a line");
    let each = (gates / sessions.len()).max(1) + WARM;
    for turn in 0..each {
        for session in &sessions {
            let point = session.point("after_train_iter").expect("a point");
            let other = session.point("before_train_iter").expect("a point");
            let loss = session.metric("loss").expect("a metric");
            for _ in 0..9 {
                let _ = session.emit(other, &Given::default(), &[], &[]);
            }
            let start = Instant::now();
            if let Signal::Gate(mut ticket) =
                session.emit(point, &Given::default(), &[(loss, nan)], &[])
            {
                while !session.wait(&mut ticket, SLICE) {}
                if turn >= WARM {
                    times.push(start.elapsed());
                }
            }
            session.take_actions(point);
        }
    }
    let timeouts: u64 = sessions.iter().map(Session::gate_timeouts).sum();
    times.sort();
    let us = |share: usize| {
        times
            .get(times.len() * share / 100)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    println!(
        "{{\"gates\": {}, \"median_us\": {:.1}, \"p99_us\": {:.1}, \"timeouts\": {timeouts}}}",
        times.len(),
        us(50),
        us(99)
    );
}
