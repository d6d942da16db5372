//! Loops over the integers of a batch that is being made, each compiled twice: for x86-64 processors that have AVX2, which take
//! them in a half to a quarter of the instructions, and for all others.

/// Makes of each loop the two, and the choice between them.
macro_rules! loops {
    ($($(#[$meta:meta])* pub fn $name:ident($($argument:ident: $type:ty),*) -> $out:ty $body:block)*) => {$(
        $(#[$meta])*
        pub fn $name($($argument: $type),*) -> $out {
            #[inline(always)]
            fn plain($($argument: $type),*) -> $out $body

            #[cfg(target_arch = "x86_64")]
            {
                fearless_simd::kernel!(
                    fn with_avx2(avx2: Avx2, $($argument: $type),*) -> $out { plain($($argument),*) }
                );
                if let Some(token) = fearless_simd::Level::new().as_avx2() {
                    return with_avx2(token, $($argument),*);
                }
            }
            plain($($argument),*)
        }
    )*};
}

loops! {
    /// The least and the greatest of `numbers`, if each differs from the first by 32 bits: comparisons of so few are vector
    /// instructions, those of 64 bits are not everywhere. Numbers over 2^63 apart are taken for near ones if they wrap to them.
    pub fn close_ends(numbers: &[i64]) -> Option<(i64, i64)> {
        let &first = numbers.first()?;
        let (mut cut, mut min, mut max) = (0, 0, 0);
        for &number in numbers {
            let difference = number.wrapping_sub(first);
            let short = difference as i32;
            cut |= difference ^ i64::from(short);
            min = min.min(short);
            max = max.max(short);
        }
        let number = |short: i32| first.wrapping_add(short.into());
        (cut == 0).then(|| (number(min), number(max)))
    }

    /// The bits in which any of `numbers` differs from the first.
    pub fn differing_bits(numbers: &[i64]) -> i64 {
        let first = numbers.first().copied().unwrap_or(0);
        numbers.iter().fold(0, |bits, number| bits | (number ^ first))
    }

    /// Writes the low 16 bits of how far each of `numbers` is from `base`; there is a place for each.
    pub fn offsets16(numbers: &[i64], base: i64, into: &mut [u16]) -> () {
        into.iter_mut().zip(numbers).for_each(|(into, number)| *into = number.wrapping_sub(base) as u16);
    }

    /// As [`offsets16`], of 32 bits.
    pub fn offsets32(numbers: &[i64], base: i64, into: &mut [u32]) -> () {
        into.iter_mut().zip(numbers).for_each(|(into, number)| *into = number.wrapping_sub(base) as u32);
    }
}
