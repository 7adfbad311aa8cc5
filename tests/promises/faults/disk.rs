//! Faults 3 to 8 and 40: what is kept is damaged, the disk fills up or fails, or is of a later
//! time; shown with the whole harvest over the pretend disk.

use std::io::ErrorKind;
use std::path::Path;

use gleaner::failure::Exit;
use gleaner::sim::SimDisk;
use gleaner::sim::disk::Trouble;

use super::ground::{
    Came, OLD, OUTPUTS, PAGES, ROOT, YAML, api, are_done, are_whole, harvest, of_the_run, output,
    pretend,
};

fn run(disk: &SimDisk, breaks_at: Option<u64>) -> Came {
    let came = harvest(disk.door(), Path::new(ROOT), YAML, api(breaks_at));
    disk.kill();
    came
}

/// A run that broke off at page 5, with four pages kept.
fn broken_off() -> SimDisk {
    let disk = pretend();
    let came = run(&disk, Some(5));
    assert_eq!(came.exit(), Exit::Resumable, "{}", came.said());
    assert_eq!(came.asked, [1, 2, 3, 4, 5]);
    disk
}

// ---- 3 to 5 ----------------------------------------------------------------------------------

#[test]
fn f03_a_ledger_whose_tail_is_cut_at_any_byte() {
    let first = broken_off();
    let whole = first.read(&of_the_run(&first, "ledger")).expect("a ledger");
    let mut asked_least = u64::MAX;
    for len in 0..=whole.len() {
        let disk = broken_off();
        disk.damage(&of_the_run(&disk, "ledger"), |bytes| bytes.truncate(len));
        let came = run(&disk, None);
        let told = format!("{len} of {}: {}", whole.len(), came.said());
        assert_eq!(came.exit(), Exit::Complete, "{told}");
        are_done(&disk, &told);
        // What is asked for is what was cut off, and all of it once.
        let from = came.asked[0];
        assert_eq!(came.asked, (from..=PAGES).collect::<Vec<_>>(), "{told}");
        asked_least = asked_least.min(PAGES + 1 - from);
        assert!(from == 1 || len > whole.len() / 8, "{told}");
    }
    assert_eq!(asked_least, 2, "the whole ledger spares four pages");
}

#[test]
fn f04_a_bit_that_turned_in_the_ledger() {
    let first = broken_off();
    let whole = first.read(&of_the_run(&first, "ledger")).expect("a ledger");
    let (mut refused, mut tails) = (0, 0);
    for at in (0..whole.len()).step_by(3) {
        let disk = broken_off();
        disk.damage(&of_the_run(&disk, "ledger"), |bytes| {
            bytes[at] ^= 1 << (at % 8);
        });
        let before = disk.files();
        let came = run(&disk, None);
        let told = format!("byte {at} of {}: {}", whole.len(), came.said());
        if came.exit() == Exit::Complete {
            // In the last rows it cannot be told from a tail that never reached the disk.
            tails += 1;
            are_done(&disk, &told);
            continue;
        }
        refused += 1;
        assert_eq!(came.exit(), Exit::Failed, "{told}");
        assert!(came.asked.is_empty(), "{told}");
        for wanted in [
            "ledger is damaged at byte",
            "--fresh",
            "nothing was changed",
        ] {
            assert!(came.said().contains(wanted), "{told}");
        }
        for (path, bytes) in &before {
            let now = disk.read(path);
            assert!(
                now.as_ref() == Some(bytes),
                "{told}: {} changed",
                path.display()
            );
        }
    }
    assert!(
        refused > tails && tails > 0,
        "{refused} refused, {tails} tails"
    );
}

#[test]
fn f05_a_part_that_is_short_or_damaged_names_its_page() {
    for (what, wanted) in [
        ("short", "page 4 was committed up to"),
        ("flipped", "page 3"),
    ] {
        let disk = broken_off();
        let part = of_the_run(&disk, "0.part");
        disk.damage(&part, |bytes| {
            if what == "short" {
                bytes.truncate(bytes.len() - 1);
            } else {
                let third = bytes.len() / 2 + 4;
                bytes[third] ^= 4;
            }
        });
        let came = run(&disk, None);
        let told = format!("{what}: {}", came.said());
        assert_eq!(came.exit(), Exit::Failed, "{told}");
        for wanted in ["0.part", "a, partition 1", wanted, "--fresh"] {
            assert!(came.said().contains(wanted), "{wanted}: {told}");
        }
        for name in OUTPUTS {
            assert_eq!(output(&disk, name), OLD, "{told}");
        }
    }
}

// ---- 6 and 7 ---------------------------------------------------------------------------------

#[test]
fn f06_f07_a_disk_that_fills_up_at_any_byte() {
    let (mut full, mut untouched) = (0, false);
    for more in (0..).step_by(29) {
        let disk = pretend();
        let used: usize = disk.files().values().map(Vec::len).sum();
        disk.set_capacity(used as u64 + more);
        let came = run(&disk, None);
        let told = format!("room for {more}: {}", came.said());
        are_whole(&disk, &told);
        if came.exit() == Exit::Complete {
            are_done(&disk, &told);
            untouched = true;
            break;
        }
        full += 1;
        assert_eq!(came.exit(), Exit::Disk, "{told}");
        let was_published = OUTPUTS.iter().all(|name| output(&disk, name) != OLD);
        disk.set_capacity(u64::MAX);
        let again = run(&disk, None);
        let told = format!("{told}, then {}", again.said());
        assert_eq!(again.exit(), Exit::Complete, "{told}");
        are_done(&disk, &told);
        if was_published {
            continue; // What is published is not gone on with: this was another run.
        }
        // Each page was committed by itself; those after the last commit are asked for again.
        let from = again.asked.first().copied().unwrap_or(PAGES + 1);
        assert_eq!(again.asked, (from..=PAGES).collect::<Vec<_>>(), "{told}");
        let last = came.asked.last().copied().unwrap_or(0);
        assert!(
            from + 2 > last,
            "{told}: from {from} where {last} was the last"
        );
    }
    assert!(untouched && full > 20, "{full} times full");
}

// ---- 8 ---------------------------------------------------------------------------------------

#[test]
fn f08_the_nth_call_fails_once_or_from_then_on() {
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for always in [false, true] {
            for at in 1.. {
                let disk = pretend();
                disk.set_trouble(if always {
                    Trouble::Always(at, kind)
                } else {
                    Trouble::Once(at, kind)
                });
                let came = harvest(disk.door(), Path::new(ROOT), YAML, api(None));
                let (operations, log) = (disk.operations(), disk.log());
                disk.kill();
                let called = usize::try_from(at).ok().and_then(|at| log.get(at - 1));
                let told = format!(
                    "{kind:?} at {at} {called:?}, always {always}: {}",
                    came.said()
                );
                are_whole(&disk, &told);
                match came.exit() {
                    Exit::Complete => are_done(&disk, &told),
                    Exit::Disk => assert!(came.said().contains("hint: Some"), "{told}"),
                    other => panic!("{told}: {other:?}"),
                }
                let again = run(&disk, None);
                let told = format!("{told}, then {}", again.said());
                assert_eq!(again.exit(), Exit::Complete, "{told}");
                are_done(&disk, &told);
                if operations < at {
                    assert_eq!(came.exit(), Exit::Complete, "{told}");
                    break;
                }
            }
        }
    }
}

/// A call that fails while a run goes on never leads to a page being asked for that was committed:
/// what cannot be read back is an error, and no reason to ask again.
#[test]
fn f08_the_nth_call_of_a_run_that_goes_on_fails() {
    let (mut reads, mut done) = (0, false);
    for at in 1.. {
        let disk = broken_off();
        disk.set_trouble(Trouble::Once(at, ErrorKind::Other));
        let came = harvest(disk.door(), Path::new(ROOT), YAML, api(None));
        let (operations, log) = (disk.operations(), disk.log());
        disk.kill();
        let called = usize::try_from(at).ok().and_then(|at| log.get(at - 1));
        let told = format!("{at} {called:?}: {} {:?}", came.said(), came.asked);
        are_whole(&disk, &told);
        let is_read = called.is_some_and(|call| call.starts_with("read"));
        reads += u32::from(is_read);
        match came.exit() {
            Exit::Complete => are_done(&disk, &told),
            Exit::Disk => assert!(came.said().contains("hint: Some"), "{told}"),
            other => panic!("{told}: {other:?}"),
        }
        assert!(came.asked.iter().all(|page| *page > 4), "{told}");
        let again = run(&disk, None);
        assert_eq!(
            again.exit(),
            Exit::Complete,
            "{told}, then {}",
            again.said()
        );
        are_done(&disk, &told);
        if operations < at {
            done = came.exit() == Exit::Complete;
            break;
        }
    }
    assert!(done && reads > 4, "{reads} reads");
}

// ---- 40 --------------------------------------------------------------------------------------

#[test]
fn f40_a_ledger_of_a_later_version_is_left_alone() {
    let disk = broken_off();
    let ledger = of_the_run(&disk, "ledger");
    // A frame is its length and its checksum in hexadecimal, and then its rows.
    disk.damage(&ledger, |bytes| {
        let head = std::str::from_utf8(&bytes[..17]).expect("text").to_owned();
        let len = usize::from_str_radix(&head[..8], 16).expect("a length");
        let rows = std::str::from_utf8(&bytes[18..18 + len]).expect("text");
        let later = rows.replacen("\"version\":1", "\"version\":9", 1);
        assert_ne!(rows, later);
        let frame = format!(
            "{:08x} {:08x}\n{later}",
            later.len(),
            gleaner::crc::of(later.as_bytes())
        );
        bytes.splice(..18 + len, frame.into_bytes());
    });
    let before = disk.files();
    let came = run(&disk, None);
    assert_eq!(came.exit(), Exit::Failed, "{}", came.said());
    assert!(
        came.said()
            .contains("is of version 9; this program knows up to 1"),
        "{}",
        came.said()
    );
    assert!(came.asked.is_empty());
    for (path, bytes) in before {
        assert!(
            disk.read(&path) == Some(bytes),
            "{} changed",
            path.display()
        );
    }
}
