use super::parse;

fn said(pattern: &str) -> String {
    parse(pattern).map(|_| "it is taken".to_owned()).unwrap_or_else(|error| error.to_string())
}

#[test]
fn a_refused_pattern_is_told_what_is_wrong_and_where() {
    let told = [
        (r"é\8", r"Go and RE2 have no such escape: `\8` at character 2"),
        (r"a\", r"the pattern ends with a backslash: `\` at character 2"),
        (r"(a)\1", r"Go and RE2 have no such escape: `\1` at character 4"),
        (r"x(?=a)", r"Go and RE2 have no such group: `(?=` at character 2"),
        (r"(?<!a)b", r"Go and RE2 have no such group: `(?<!` at character 1"),
        (r"(?<a", r"a group has no valid name: `(?<a` at character 1"),
        (r"a(?P<é>b)", r"a group has no valid name: `(?P<é>` at character 2"),
        (r"ab**", r"a repetition repeats a repetition: `**` at character 3"),
        (r"a|*", r"a repetition has nothing to repeat: `*` at character 3"),
        (r"a{2,1}", r"a repeat count is above 1000 or descends: `{2,1}` at character 2"),
        (r"(a{100}){11}", r"something is repeated more than 1000 times: `{11}` at character 9"),
        (r"a(b", r"a group is not closed: `(b` at character 2"),
        (r"a)b", r"a group is closed that was not opened: `)` at character 2"),
        (r"[a", r"a class is not closed: `[a` at character 1"),
        (r"[z-a]", r"a range in a class descends: `z-a` at character 2"),
        (r"[[:letter:]]", r"there is no such class: `[:letter:]` at character 2"),
        (r"\p{Script=Greek}", r"there is no such category or script: `\p{Script=Greek}` at character 1"),
    ];
    for (pattern, expected) in told {
        assert_eq!(said(pattern), expected, "{pattern}");
    }
}

#[test]
fn what_is_nested_too_deeply_is_refused_and_breaks_nothing() {
    let deep = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    assert_eq!(said(&deep(60)), "it is taken");
    assert!(said(&deep(2000)).starts_with("the pattern is nested too deeply"));
    // Flags between them make repetitions of repetitions.
    assert!(said(&format!("a{}", "*(?i)".repeat(800))).starts_with("the pattern is nested too deeply"));
}
