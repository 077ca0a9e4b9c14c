//! The least that looking can cost on this machine: `bare PID SECONDS` prints the processor time of a loop that does nothing but
//! read the two files of the fast probes ten times a second, in microseconds a wake.

#[path = "../../daemon/tests/bare/mod.rs"]
mod bare;

use std::time::Duration;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [pid, seconds] = args.as_slice() else {
        panic!("bare PID SECONDS");
    };
    let pid = pid.parse().expect("PID is a number");
    let seconds = seconds.parse().expect("SECONDS is a number");
    let us = bare::us_a_wake(pid, Duration::from_secs_f64(seconds));
    println!("{:.3}", us.expect("the process is there"));
}
