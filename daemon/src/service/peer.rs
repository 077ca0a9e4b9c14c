//! Whose process is it: what a trainer says of itself is believed only if the machine confirms it.

use crate::domain::ProcessIdentity;
use crate::listen::Peer;
use crate::sampler::identity;

/// The trainer's process as this daemon sees it (pid, start ticks), or why it is not known.
pub(super) fn confirm(peer: Option<&Peer>, said: &ProcessIdentity) -> Result<(u32, u64), String> {
    if said.boot_id != identity::boot_id() {
        return Err("it runs under another kernel (another host or virtual machine)".to_owned());
    }
    // The kernel's word first; then the pid that the trainer has in its outermost namespace, if it is its user's.
    let by_kernel = peer.and_then(|peer| peer.pid);
    let uid = peer.and_then(|peer| peer.uid).filter(|uid| *uid != 0);
    let is_theirs = |pid: &u32| uid.is_none() || identity::owner(*pid) == uid;
    let by_word = said.ns_pids.first().copied().filter(is_theirs);
    for pid in by_kernel.into_iter().chain(by_word) {
        if identity::start_ticks(pid) == Some(said.start_ticks) {
            return Ok((pid, said.start_ticks));
        }
    }
    Err("pid namespace not shared".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_machine_confirms_is_believed() {
        let pid = std::process::id();
        let start_ticks = identity::start_ticks(pid).expect("this process runs");
        let me = ProcessIdentity {
            ns_pids: vec![pid],
            start_ticks,
            boot_id: identity::boot_id(),
            command: String::new(),
        };
        assert_eq!(confirm(None, &me), Ok((pid, start_ticks)));
        let liar = ProcessIdentity {
            start_ticks: start_ticks + 1,
            ..me.clone()
        };
        assert_eq!(
            confirm(None, &liar),
            Err("pid namespace not shared".to_owned())
        );
        let stranger = Peer {
            uid: Some(4_000_000),
            pid: None,
            unix: true,
            certified: false,
            remote: String::new(),
        };
        assert!(
            confirm(Some(&stranger), &me).is_err(),
            "another user's process"
        );
        let elsewhere = ProcessIdentity {
            boot_id: "another".into(),
            ..me
        };
        assert!(confirm(None, &elsewhere).is_err());
    }
}
