//! How many spans a malformed request seems to hold, for the account of what was refused.

use super::wire::{LENGTH, fields};

/// The spans that can be told apart: whole ones, in whole resources and scopes.
pub fn countable_spans(wire: &[u8]) -> usize {
    // `resource_spans`, then `scope_spans`, then `spans`.
    count(wire, 0, wire.len(), &[1, 2, 2])
}

fn count(wire: &[u8], at: usize, end: usize, path: &[u32]) -> usize {
    let Some((number, rest)) = path.split_first() else { return 1 };
    let inside = fields(wire, at, end).filter(|field| field.number == *number && field.kind == LENGTH);
    inside.map(|field| count(wire, field.value, field.end, rest)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_spans_count_and_a_torn_end_does_not() {
        let span = [0x12, 0x02, 0x2a, 0x00];
        let scope = [[0x12, 0x08].as_slice(), &span, &span].concat();
        let resource = [[0x0a, scope.len() as u8].as_slice(), &scope].concat();
        assert_eq!(countable_spans(&resource), 2);
        let torn = [resource.as_slice(), &[0x0a, 0x7f, 0x01]].concat();
        assert_eq!(countable_spans(&torn), 2);
        assert_eq!(countable_spans(&[0xff; 20]), 0);
        assert_eq!(countable_spans(&[]), 0);
    }
}
