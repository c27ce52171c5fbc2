//! The inputs that fuzzing has left, checked once more: no fuzzer is needed for that, nor its toolchain.

use std::fs;

use pool_tests::fuzz;

fn replay(target: &str, body: fn(&[u8])) {
    let mut inputs: Vec<_> =
        fs::read_dir(fuzz::corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 10, "the corpus is where it is looked for");
    for input in inputs {
        // Should it fail, this is the last line that is printed.
        println!("{}", input.display());
        body(&fs::read(&input).unwrap());
    }
}

#[test]
fn frames_come_out_as_the_simplest_decoder_has_them() {
    replay("frame", fuzz::frame);
}

#[test]
fn a_message_is_refused_with_a_reason_or_read_as_it_was_meant() {
    replay("request", fuzz::request);
}

#[test]
fn a_line_of_a_resident_program_is_understood_or_refused_with_itself() {
    replay("rpc", fuzz::rpc);
}

#[test]
fn a_configuration_is_refused_with_a_reason_or_keeps_its_bounds() {
    replay("config", fuzz::config);
}
