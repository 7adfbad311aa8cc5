//! CRC32C (Castagnoli; RFC 3720, section 12.1) of what is written, and of parts put together.
//!
//! A leaf: whoever hands on bytes may say what they sum up to, and whoever writes them says so on.

/// The sum of some bytes.
#[must_use]
pub fn of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The sum of bytes whose beginning sums up to `crc`, given the rest.
#[must_use]
pub fn append(crc: u32, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, rest)
}

/// The sum of two stretches of bytes put together, given those of both and the length of the
/// second.
///
/// To append `n` zero bits is to multiply by x^n (as zlib's `crc32_combine` does since 1.2.12): a
/// fraction of a microsecond, where the crate's own squares matrices for five.
#[must_use]
pub fn combine(first: u32, second: u32, second_len: u64) -> u32 {
    multiply(zero_bytes(second_len), first) ^ second
}

/// The polynomial, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x^(8 d 256^k), for each place `k` of a length in base 256 and each digit `d` there.
const POWERS: [[u32; 256]; 8] = {
    let mut powers = [[ONE; 256]; 8];
    // x^8.
    let mut base = ONE >> 8;
    let mut k = 0;
    while k < powers.len() {
        let mut digit = 1;
        while digit < 256 {
            powers[k][digit] = multiply(powers[k][digit - 1], base);
            digit += 1;
        }
        base = multiply(powers[k][255], base);
        k += 1;
    }
    powers
};

/// The product of two polynomials, modulo ours.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, ONE);
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        let carry = if b & 1 == 1 { POLYNOMIAL } else { 0 };
        b = b >> 1 ^ carry;
        bit >>= 1;
    }
    product
}

/// x^(8 n), modulo ours.
fn zero_bytes(n: u64) -> u32 {
    let digits = n.to_le_bytes().map(usize::from);
    let factors = POWERS.iter().zip(digits).filter(|(_, digit)| *digit > 0);
    // Lengths are short: one product or two.
    factors
        .map(|(powers, digit)| powers[digit])
        .reduce(multiply)
        .unwrap_or(ONE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        // CRC-32/ISCSI in the catalogue of parametrised CRC algorithms.
        assert_eq!(of(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn lengths_that_no_memory_holds_are_combined_too() {
        for len in [1 << 31, 1 << 40, u64::MAX >> 3] {
            let half = len / 2;
            let in_two = multiply(zero_bytes(half), zero_bytes(len - half));
            assert_eq!(zero_bytes(len), in_two, "{len}");
        }
    }

    proptest! {
        #[test]
        fn parts_sum_up_to_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..3000), at: prop::sample::Index) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            prop_assert_eq!(combine(of(first), of(second), second.len() as u64), of(&bytes));
            prop_assert_eq!(append(of(first), second), of(&bytes));
        }
    }
}
