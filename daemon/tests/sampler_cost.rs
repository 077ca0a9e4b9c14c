//! What looking costs, measured on real processes: a trainer with twenty threads and eight workers at the usual rates, beside
//! a loop that only reads what the fast probes read.

mod bare;
mod trainers;

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use hookbusd::sampler::{Sampler, Settings};
use hookbusd::store::Live;

use trainers::{Trainer, until};

const TRAINER: &str = r#"
import multiprocessing, os, sys, threading
done, done_end = os.pipe()
ready, ready_end = os.pipe()
ballast = bytearray(100 << 20)
def work():
    os.close(done_end)
    os.write(ready_end, b"x")
    os.read(done, 1)
context = multiprocessing.get_context("fork")
workers = [context.Process(target=work) for _ in range(8)]
for worker in workers:
    worker.start()
for _ in range(19):
    threading.Thread(target=os.read, args=(done, 1), daemon=True).start()
seen = 0
while seen < 8:
    seen += len(os.read(ready, 8))
print("ready", flush=True)
sys.stdin.read()
os.close(done_end)
for worker in workers:
    worker.join()
"#;

#[test]
#[ignore = "takes a minute and means something only with --release on a quiet machine"]
fn the_fast_probes_cost_less_than_a_twentieth_of_a_percent_of_a_core() {
    let trainer = Trainer::start(TRAINER, &[]);
    let live = Live::default();
    let (pid, start_ticks) = trainer.key();
    live.watch(pid, start_ticks);
    let bare = || bare::us_a_wake(pid, Duration::from_secs(15)).expect("it is there");
    let bare_before = bare();
    let settings = Settings {
        gpu: false,
        ..Settings::default()
    };
    let sampler = Sampler::start(settings, live.clone()).expect("a thread");
    let reads = |name: &str| {
        let costs = live.costs();
        let cost = costs.iter().find(|cost| cost.name == name);
        cost.map_or(0, |cost| cost.reads)
    };
    until("a first look at all", || reads("smaps") >= 9);
    let (before, start) = (live.costs(), Instant::now());
    // It is time itself that is waited for: costs are by time.
    let (_keep, never) = sync_channel::<()>(1);
    assert!(never.recv_timeout(Duration::from_secs(30)).is_err());
    let (after, elapsed) = (live.costs(), start.elapsed());
    sampler.stop();
    let bare = (bare_before + bare()) / 2.0;
    let (mut fast, mut wake_us) = (0.0, 0.0);
    for (before, after) in before.iter().zip(&after) {
        let percent = (after.cpu - before.cpu).as_secs_f64() / elapsed.as_secs_f64() * 100.0;
        let reads = after.reads - before.reads;
        let each = (after.cpu - before.cpu).as_secs_f64() * 1e6 / reads.max(1) as f64;
        println!(
            "{:<9} {reads:>4} reads, {each:>8.1} us each, {percent:.4} % of a core",
            after.name
        );
        if ["host", "process", "children"].contains(&after.name) {
            fast += percent;
        }
        if ["host", "process"].contains(&after.name) {
            wake_us += each;
        }
    }
    let ratio = wake_us / bare;
    println!(
        "host and process: {wake_us:.1} us a wake, {ratio:.2} times a bare loop's {bare:.1} us"
    );
    println!("host, process and children together: {fast:.4} % of a core");
    assert!(fast <= 0.05, "{fast}");
}
