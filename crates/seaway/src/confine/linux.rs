//! Landlock and seccomp.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    path_beneath_rules,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

use super::{Confined, FileReach};

/// The newest of the kernel's rules that are asked for; an older kernel holds what it knows of them.
const RULES: ABI = ABI::V5;

/// What a gateway has no use for, and an intruder would: other programs, other processes' memory, the machine itself.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_personality,
];

/// The same calls by the numbers of x32, an ABI of the same processor that some kernels have: most with a bit set, and a
/// few with numbers of their own.
#[cfg(target_arch = "x86_64")]
fn of_x32() -> impl Iterator<Item = i64> {
    const X32: i64 = 0x4000_0000;
    REFUSED.iter().map(|call| call | X32).chain((512..=547).map(|call| call | X32))
}

#[cfg(not(target_arch = "x86_64"))]
fn of_x32() -> impl Iterator<Item = i64> {
    std::iter::empty()
}

pub(super) fn restrict(reach: &FileReach) -> io::Result<Confined> {
    // A container may refuse one of them: the other one holds all the same.
    let (files, calls) = (restrict_files(reach), restrict_calls());
    Ok(Confined {
        files: files.map_err(io::Error::other)?,
        calls: calls.map_err(io::Error::other)?,
    })
}

pub(super) fn restrict_files(reach: &FileReach) -> Result<bool, RulesetError> {
    let all = AccessFs::from_all(RULES);
    let status = Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(&reach.read, AccessFs::from_read(RULES)))?
        .add_rules(path_beneath_rules(&reach.write, all))?
        .add_rules(path_beneath_rules(&reach.make, AccessFs::MakeDir | AccessFs::ReadDir))?
        .restrict_self()?;
    Ok(matches!(status.landlock, LandlockStatus::Available { .. }))
}

/// False where this machine's processor is none that the filter knows.
fn restrict_calls() -> Result<bool, seccompiler::Error> {
    let Ok(arch) = std::env::consts::ARCH.try_into() else { return Ok(false) };
    let rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().copied().chain(of_x32()).map(|call| (call, Vec::new())).collect();
    let refused = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    let program: BpfProgram = filter.try_into()?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(true),
        // A kernel without it.
        Err(seccompiler::Error::Prctl(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "what is refused is tried here")]

    use std::io::ErrorKind;
    use std::path::Path;
    use std::process::Command;

    use super::super::outside;
    use super::*;

    #[test]
    fn what_is_forbidden_is_refused_to_every_thread_that_comes_later() {
        let (own, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = others.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        let reach = FileReach {
            read: ["/etc", "/usr", "/lib", "/lib64", "/bin", "/proc", "/dev"]
                .map(Into::into)
                .into(),
            write: vec![own.path().to_owned()],
            make: Vec::new(),
        };
        let tried = std::thread::spawn(move || {
            let confined = restrict(&reach).unwrap();
            assert_eq!(confined, Confined { files: true, calls: true }, "the kernel has both");
            std::thread::spawn(move || try_all(own.path(), others.path(), &secret)).join().unwrap();
        });
        tried.join().unwrap();
        assert!(Command::new("true").status().unwrap().success(), "this thread is not confined");
        assert!(outside(|| true));
    }

    fn try_all(own: &Path, others: &Path, secret: &Path) {
        std::fs::write(own.join("file"), "x").unwrap();
        std::fs::rename(own.join("file"), own.join("other")).unwrap();
        assert!(std::fs::read_to_string("/etc/passwd").is_ok());
        let refused = |what: &str, tried: io::Result<()>| {
            assert_eq!(
                tried.map_err(|error| error.kind()),
                Err(ErrorKind::PermissionDenied),
                "{what}"
            );
        };
        refused("reads", std::fs::read(secret).map(drop));
        refused("lists", std::fs::read_dir(others).map(drop));
        refused("writes", std::fs::write(secret, "x"));
        refused("makes", std::fs::write(others.join("new"), "x"));
        refused("deletes", std::fs::remove_file(secret));
        refused("makes a folder", std::fs::create_dir(others.join("folder")));
        refused("brings in", std::os::unix::fs::symlink(secret, others.join("link")));
        refused("writes where it may read", std::fs::write("/etc/seaway-was-here", "x"));
        refused("by a link", {
            std::os::unix::fs::symlink(secret, own.join("link")).unwrap();
            std::fs::read(own.join("link")).map(drop)
        });
        refused("starts a program", Command::new("true").status().map(drop));
    }
}
