//! The receiver's side of OTLP.
//!
//! What of the contract each test shows; `no test` names why there is none.
//!
//! A1 no compression, gzip, and the Collector's others: encodings::every_encoding_of_the_collector_is_understood
//! A2 empty requests succeed: requests::an_empty_request_succeeds_and_nothing_is_sent, json::an_empty_request_succeeds
//! A3 full success says nothing: requests::an_empty_request_succeeds_and_nothing_is_sent, json::a_request_in_json_arrives_as_protobuf_and_is_answered_in_json
//! A4 partial success counts and says why: requests::spans_with_invalid_ids_are_told_and_the_others_are_delivered
//! A5 a warning rejects nothing: answers::a_partial_success_over_grpc_is_logged_and_counted_and_not_retried
//! A6 the limit, after decompression too: requests::a_request_over_the_limit_is_refused_and_not_to_be_retried, requests::the_limit_counts_after_decompression
//! A7 answers are bounded: answers::what_a_destination_says_at_length_is_passed_on_in_short
//! A8 the answer comes after the responsibility: requests::the_answer_comes_when_the_destination_has_the_spans
//! A9 calls of one connection at once: grpc::calls_on_one_connection_are_handled_at_once
//! A10 no empty envelopes of our own: line::a_batch_of_which_everything_is_dropped_is_answered_ok_and_nothing_is_sent, edits::an_attribute_that_is_set_and_removed_again_leaves_no_empty_resource
//! A11 unknown fields are kept: line::a_request_that_no_plugin_edits_leaves_as_the_bytes_that_came, line::a_plugins_edits_arrive_and_unknown_fields_survive_them
//! B1 port 4317 (golden listeners-clash); the service: config::a_mistake_in_a_config_is_told_exactly_so, grpc::other_services_and_methods_are_unimplemented
//! B2 overload is UNAVAILABLE with RetryInfo: http::overload_is_told_with_the_destinations_retry_after, memory::requests_beyond_the_budget_are_refused_for_now_before_they_are_read
//! B3 bad data is INVALID_ARGUMENT: requests::malformed_protobuf_is_refused_wherever_it_is_torn, requests::malformed_fields_are_refused
//! B4 other services are UNIMPLEMENTED: grpc::other_services_and_methods_are_unimplemented
//! B5 bad credentials are UNAUTHENTICATED: auth::who_may_not_send_is_told_so_before_the_body_comes
//! B6 errors of the pipeline: answers::without_retries_the_sender_hears_what_can_be_retried, sending::a_full_queue_is_told_and_counted
//! B7 deadline and cancellation: grpc::the_calls_deadline_ends_the_wait_for_the_destination, requests::a_sender_that_goes_away_leaves_the_queue
//! B8 limits of HTTP/2: connections::more_streams_than_a_connection_may_have_wait_for_their_turn, connections::reset_floods_end_the_connection_and_nothing_else, connections::a_flood_of_headers_is_refused_and_nobody_else_notices
//! B9 answers of gRPC are never packed: no test, each answer that the tests read is checked for it
//! C1 port 4318 (golden listeners-clash), path, versions: config::a_mistake_in_a_config_is_told_exactly_so, http::both_versions_of_http_and_both_kinds_of_length_are_taken, http::the_path_can_be_another
//! C2 the answer has the request's content type: http::the_content_type_may_carry_parameters_and_be_in_capitals, json::the_media_type_may_carry_parameters_and_the_body_may_be_packed
//! C3 other content types are 415: http::other_content_types_methods_and_paths_are_refused_in_plain_text
//! C4 other methods are 405: http::other_content_types_methods_and_paths_are_refused_in_plain_text
//! C5 other encodings are 400: http::content_encodings_that_are_not_understood_are_refused_with_a_status
//! C6 bad data is 400 with BadRequest: requests::malformed_fields_are_refused, json::what_is_wrong_is_told_in_json_with_its_place
//! C7 each refusal is a Status in the request's encoding: keys::an_answer_that_takes_too_long_is_a_status_in_the_requests_encoding, json::what_is_wrong_is_told_in_json_with_its_place
//! C8 Retry-After: http::overload_is_told_with_the_destinations_retry_after, json::overload_is_told_in_json_with_the_destinations_retry_after
//! C9 HTTP's status of each of gRPC's: answers::http_senders_hear_the_status_that_fits
//! C10 answers of HTTP are never packed: raw::answers_are_never_packed
//! C11 connections are kept: connections::connections_of_http_are_kept_or_not_as_the_config_says
//! C12 lengths, chunks, bombs: raw::odd_requests_that_http_allows_are_taken, raw::broken_requests_are_refused_and_cost_nobody_else_anything, http::a_body_over_the_limit_is_refused_before_its_end, encodings::a_bomb_in_any_encoding_is_refused_within_bounded_memory
//! C13 one port for both protocols: no test, it is allowed and not done
//! D1 ids are hexadecimal: json::a_request_in_json_arrives_as_protobuf_and_is_answered_in_json
//! D2 enums are numbers, and names too: json::names_numbers_and_bytes_are_read_in_every_form_that_the_collector_takes
//! D3 keys in camelCase, and snake_case too: json::names_numbers_and_bytes_are_read_in_every_form_that_the_collector_takes
//! D4 unknown fields are ignored: json::a_request_in_json_arrives_as_protobuf_and_is_answered_in_json
//! D5 64-bit numbers as text or number: json::names_numbers_and_bytes_are_read_in_every_form_that_the_collector_takes
//! D6 base64, NaN, Infinity: json::names_numbers_and_bytes_are_read_in_every_form_that_the_collector_takes
//! D7 `{}` succeeds: json::an_empty_request_succeeds
//! D8 ids of a wrong length are 400, empty ones rejected spans: json::what_is_wrong_is_told_in_json_with_its_place, json::spans_without_valid_ids_are_told_in_json
//! D9 nesting is bounded: json::what_is_wrong_is_told_in_json_with_its_place, requests::values_nested_without_end_are_refused
//! E1 invalid ids: requests::spans_with_invalid_ids_are_told_and_the_others_are_delivered
//! E2 all bits of the flags: model::every_field_arrives_as_it_came_also_beside_an_edit
//! E3 states, counts, schema URLs, entities: model::every_field_arrives_as_it_came_also_beside_an_edit
//! E4 keys that occur twice: model::every_field_arrives_as_it_came_also_beside_an_edit, edits::a_set_leaves_one_attribute_of_the_key_in_the_firsts_place
//! E5 indices of profiles: model::every_field_arrives_as_it_came_also_beside_an_edit
//! E6 values without a value: model::every_field_arrives_as_it_came_also_beside_an_edit

mod auth;
mod browser;
mod connections;
mod encodings;
mod grpc;
mod http;
mod json;
mod keys;
mod memory;
mod model;
mod raw;
mod requests;
mod tls;

use serde_json::{Value, json};

/// A limit of 1 MiB on both protocols.
const LIMIT: usize = 1 << 20;

fn limits() -> [(&'static str, Value); 2] {
    [
        ("receivers.otlp.protocols.grpc.max_recv_msg_size_mib", json!(1)),
        ("receivers.otlp.protocols.http.max_request_body_size", json!(LIMIT)),
    ]
}
