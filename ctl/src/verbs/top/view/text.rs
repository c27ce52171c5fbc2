//! Numbers as people read them.

/// A number with a comma after each three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate: with one decimal below 10, and without decimals above.
pub fn rate(per_second: f64) -> String {
    let decimals = if per_second < 10.0 { 1 } else { 0 };
    format!("{per_second:.decimals$}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let wanted = ["0", "999", "1,000", "1,234,567"];
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), wanted);
        assert_eq!([0.25, 9.94, 512.4].map(rate), ["0.2/s", "9.9/s", "512/s"]);
    }
}
