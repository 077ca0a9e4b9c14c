//! What the training thread asks of the kernel over 100,000 emits, with a learning-rate schedule in force: nothing of its
//! own, and at most one wake a flush or park. Applying the schedule asks for nothing.
//!
//! The thread is traced (ptrace), so each of its system calls is seen and named; the client's own thread is not. This test
//! has no harness: it runs itself again as the trainer.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookbus_client::{Given, Options, PointId, Signal, attach, wire};
use hookbus_e2e::Sandbox;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal as Kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const EMITS: u64 = 100_000;
/// The trainer's environment variable: the daemon's address.
const TRAINER: &str = "HOOKBUS_TEST_TRAINER";

fn main() {
    if let Ok(address) = std::env::var(TRAINER) {
        return trainer(&address);
    }
    println!("\nrunning 1 test");
    let sandbox = Sandbox::start();
    let mut trainer = Command::new(std::env::current_exe().expect("the test's own path"))
        .env(TRAINER, sandbox.url())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the trainer starts");
    let calls = traced(Pid::from_raw(trainer.id() as i32));
    let mut told = String::new();
    let mut stdout = trainer.stdout.take().expect("it is piped");
    stdout
        .read_to_string(&mut told)
        .expect("the trainer's numbers");
    assert!(trainer.wait().expect("its status").success());
    let numbers: Vec<u64> = told
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let [flushes, acked, scheduled] = numbers[..] else {
        panic!("not three numbers: {told:?}");
    };
    assert_eq!(
        scheduled,
        EMITS / 2,
        "each iteration had a learning rate of the schedule"
    );
    assert!(
        acked >= EMITS,
        "the daemon has seen the {EMITS} events, not {acked}"
    );
    let total: u64 = calls.values().sum();
    println!("{EMITS} emits: {total} system calls {calls:?}, {flushes} flushes");
    for call in calls.keys() {
        let wakes = [libc::SYS_write, libc::SYS_futex];
        assert!(wakes.contains(call), "system call {call} is no wake");
    }
    // one park at most: the silence before the first emit
    assert!(
        total <= flushes + 1,
        "{total} system calls for {flushes} flushes"
    );
    println!("test the_training_thread_makes_at_most_one_system_call_a_flush ... ok\n");
}

/// Emits between two marks that only this thread makes: a SIGSTOP, and the question for its parent.
fn trainer(address: &str) {
    let mut options = Options::new("syscalls", Some(address)).expect("a valid address");
    options.hooks = vec![schedule()];
    let session = attach(options);
    session.facts(wire::Facts {
        max_epochs: Some(100),
        iters_per_epoch: Some(EMITS / 100),
        groups: vec![
            wire::ParamGroup {
                base_lr: 0.01,
                name: "body".into(),
            };
            2
        ],
        ..Default::default()
    });
    let point = session.point("after_train_iter").expect("a point");
    let loss = session.metric("loss").expect("a name");
    let lr = session.metric("lr").expect("a name");
    let quiet = |signal| {
        assert_eq!(
            signal,
            Signal::Quiet,
            "nobody asks anything of this trainer"
        )
    };
    let train = |iterations: u64| {
        let mut scheduled = 0;
        for n in 0..iterations {
            let top = PointId::BEFORE_TRAIN_ITER;
            quiet(session.emit(top, &Given::NOTHING, &[], &[]));
            let mut rates = [1.0; 2];
            let written = session.steers_rates() && session.rates(&mut rates).any;
            scheduled += u64::from(written && rates[0] < 1.0);
            let values = [(loss, n as f64), (lr, rates[0])];
            quiet(session.emit(point, &Given::NOTHING, &values, &[]));
        }
        scheduled
    };
    let begins = session.point("before_train").expect("a point");
    while session.emit(begins, &Given::NOTHING, &[], &[]) == Signal::Prepare {
        session.prepare(Duration::from_secs(30));
    }
    train(50);
    assert!(
        session.flush(Duration::from_secs(30)),
        "the warm-up is acknowledged"
    );
    let before = session.status().flushes;
    ptrace::traceme().expect("a child may be traced by its parent");
    raise(Kill::SIGSTOP).expect("a signal to oneself");
    let scheduled = train(EMITS / 2);
    nix::unistd::getppid();
    assert!(
        session.flush(Duration::from_secs(30)),
        "all is acknowledged"
    );
    let status = session.status();
    let flushes = status.flushes - before;
    println!("{flushes} {} {scheduled}", status.acked);
    session.close("finished", false);
}

/// YOLOX's learning rate, as a trainer asks for it.
fn schedule() -> wire::HookRequest {
    use wire::value::Kind;
    let value = |kind| wire::Value { kind: Some(kind) };
    wire::HookRequest {
        r#type: "YOLOXLrUpdaterHook".into(),
        args: [
            ("num_last_epochs".to_owned(), value(Kind::Integer(1))),
            ("min_lr_ratio".to_owned(), value(Kind::Number(0.05))),
            ("by_epoch".to_owned(), value(Kind::Boolean(false))),
        ]
        .into(),
        ..Default::default()
    }
}

/// System calls of the child's main thread from its SIGSTOP to its getppid, by number.
fn traced(trainer: Pid) -> BTreeMap<i64, u64> {
    let mut calls = BTreeMap::new();
    let first = waitpid(trainer, Some(WaitPidFlag::__WALL)).expect("the trainer stops");
    assert_eq!(first, WaitStatus::Stopped(trainer, Kill::SIGSTOP));
    ptrace::setoptions(trainer, ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("its tracer");
    loop {
        ptrace::syscall(trainer, None).expect("it goes on");
        match waitpid(trainer, Some(WaitPidFlag::__WALL)).expect("it stops again") {
            WaitStatus::PtraceSyscall(_) => {}
            other => panic!("the trainer ended or was signalled: {other:?}"),
        }
        let info = ptrace::syscall_info(trainer).expect("Linux 5.3 or later");
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            // SAFETY: `op` says which member of the union the kernel filled in.
            let nr = unsafe { info.u.entry.nr };
            let nr = i64::try_from(nr).expect("a small number");
            if nr == libc::SYS_getppid {
                ptrace::detach(trainer, None).expect("its tracer");
                return calls;
            }
            *calls.entry(nr).or_default() += 1;
        }
    }
}
