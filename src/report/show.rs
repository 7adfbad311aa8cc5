//! Numbers, times and paths as people read them: sizes, durations, rates.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::clean::clean;
use crate::count::thousands;

/// `312 B`, `48 kB`, `1.2 MB`, `3.4 GB`; powers of ten, as disks are sold.
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        value /= 1000.0;
        unit = next;
        if value < 999.5 {
            break;
        }
    }
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// As short as it can be typed from here, safe for a terminal.
pub(super) fn path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let short = here
        .as_deref()
        .and_then(|here| path.strip_prefix(here).ok());
    clean(&short.unwrap_or(path).display().to_string()).into_owned()
}

/// A moment for people, in the zone they live in: `14:03`, or with its day where that is another.
pub(super) fn moment(at: Timestamp, now: Timestamp) -> String {
    let zone = TimeZone::system();
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone));
    let format = if at.date() == now.date() {
        "%H:%M"
    } else {
        "%Y-%m-%d %H:%M"
    };
    at.strftime(format).to_string()
}

/// `350ms`, `4.2s`, `12s`, `2min 5s`, `3h 10min`, `1d 4h`
pub fn duration(d: Duration) -> String {
    let millis = d.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    if millis < 9950 {
        let tenths = (millis + 50) / 100;
        return if tenths.is_multiple_of(10) {
            format!("{}s", tenths / 10)
        } else {
            format!("{}.{}s", tenths / 10, tenths % 10)
        };
    }
    whole_seconds(Duration::from_millis(
        u64::try_from(millis).unwrap_or(u64::MAX),
    ))
}

/// As [`duration`], without parts of a second: for what counts down.
pub(super) fn whole_seconds(d: Duration) -> String {
    let s = d.as_secs() + u64::from(d.subsec_millis() >= 500);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{big}{big_unit}")
        } else {
            format!("{big}{big_unit} {small}{small_unit}")
        }
    };
    match s {
        0..60 => format!("{s}s"),
        60..3600 => two(s / 60, "min", s % 60, "s"),
        3600..86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        _ => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
    }
}

/// A time on the zone's clock, and how far it is: `14:03 (in 4min)`, `2 Mar 09:00 (in 1d 4h)`.
pub fn when(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let far = now.duration_since(at);
    let length = whole_seconds(far.unsigned_abs());
    let far = match far.as_secs() {
        0 => "now".to_owned(),
        1.. => format!("{length} ago"),
        _ => format!("in {length}"),
    };
    format!("{} ({far})", clock_time(at, now, zone))
}

/// A time on the zone's clock, with its day where that is not today's: `14:03`, `2 Mar 09:00`.
pub(super) fn clock_time(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let form = if at.date() == now.date() {
        "%H:%M"
    } else if at.year() == now.year() {
        "%-d %b %H:%M"
    } else {
        "%-d %b %Y %H:%M"
    };
    at.strftime(form).to_string()
}

/// `3.2/s`, `310/s`, `1,204/s`
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 9.95 {
        format!("{per_second:.1}/s")
    } else {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounded, at least 9.95, and shown only"
        )]
        let whole = per_second.round() as u64;
        format!("{}/s", thousands(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_name_their_day_where_it_is_not_today() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = time("2025-03-01T23:58:00Z");
        for (at, shown) in [
            ("2025-03-01T23:59:30Z", "23:59 (in 1min 30s)"),
            ("2025-03-01T20:58:00Z", "20:58 (3h ago)"),
            ("2025-03-02T09:00:00Z", "2 Mar 09:00 (in 9h 2min)"),
            ("2026-01-01T00:00:00Z", "1 Jan 2026 00:00 (in 305d)"),
            ("2025-03-01T23:58:00Z", "23:58 (now)"),
        ] {
            assert_eq!(when(time(at), now, &TimeZone::UTC), shown);
        }
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(clock_time(now, now, &zone), "01:58");
    }

    #[test]
    fn numbers_read_well() {
        for (n, shown) in [
            (999, "999 B"),
            (1000, "1.0 kB"),
            (48_300, "48 kB"),
            (999_600, "1.0 MB"),
            (3_420_000_000, "3.4 GB"),
        ] {
            assert_eq!(size(n), shown);
        }
        assert_eq!(rate(0.25), "0.2/s");
        assert_eq!(rate(1204.4), "1,204/s");
    }

    #[test]
    fn durations_read_well() {
        for (millis, shown) in [
            (350, "350ms"),
            (4200, "4.2s"),
            (5000, "5s"),
            (9960, "10s"),
            (59_600, "1min"),
            (125_000, "2min 5s"),
            (11_400_000, "3h 10min"),
            (100_800_000, "1d 4h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), shown);
        }
    }
}
