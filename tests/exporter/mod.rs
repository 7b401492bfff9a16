//! The exporters' side of OTLP.
//!
//! What of the contract each test shows; `no test` names why there is none.
//!
//! F1 retries with backoff, and what is given up is counted: answers::grpc_statuses_are_retried_as_the_specification_says, sending::retries_end_after_their_time_and_the_sender_hears_it
//! F2 partial success is counted and not retried: answers::a_partial_success_over_grpc_is_logged_and_counted_and_not_retried
//! F3 large requests go in parts: tempo::a_message_over_the_limit_goes_in_parts_and_the_next_one_at_once, tempo::a_body_that_is_too_large_for_http_goes_in_parts
//! F4 answers are not read without end: answers::a_huge_answer_over_grpc_is_not_read_to_its_end, answers::a_huge_answer_over_http_is_not_read_to_its_end
//! F5 a queue for each destination: sending::one_slow_destination_does_not_hold_another_up, line::one_pipeline_sends_to_all_its_exporters
//! F6 concurrency is the config's: sending::one_slow_destination_does_not_hold_another_up
//! F7 a shutdown waits, and not for ever: shutdown::requests_under_way_are_drained_and_health_says_so, shutdown::the_grace_periods_end_says_how_many_spans_were_not_delivered
//! F8 compression: routes::every_compression_arrives_as_it_was, line::grpc_and_http_come_in_and_go_out_over_grpc_as_gzip
//! F9 User-Agent: routes::user_agent_and_authority_are_what_the_config_says
//! G1 RetryInfo is kept to: answers::a_pause_that_the_destination_asks_for_is_kept
//! G2 RESOURCE_EXHAUSTED without RetryInfo: tempo::a_limited_rate_is_waited_for_with_and_without_a_word_on_how_long, tempo::a_rate_limit_can_be_taken_by_the_specifications_letter
//! G3 the table of statuses: answers::grpc_statuses_are_retried_as_the_specification_says, answers::without_retries_the_sender_hears_what_can_be_retried
//! H1 the table of HTTP's statuses: answers::http_statuses_are_retried_as_the_specification_says, routes::a_redirect_within_the_host_is_followed_and_any_other_is_final
//! H2 Retry-After: answers::a_pause_that_the_destination_asks_for_is_kept, status::retry_after_is_seconds_or_a_date
//! H3 lost connections: sending::a_destination_that_comes_up_gets_what_waited_over_http, sending::a_destination_that_hangs_up_is_tried_again
//! H4 connections are kept, HTTP/2 where it is spoken: routes::connections_are_kept_unless_that_is_not_wanted, routes::http2_is_spoken_where_the_server_can_and_not_where_the_config_says_no
//! H5 partial success in HTTP's body: answers::a_partial_success_over_http_is_logged_and_counted_and_not_retried, routes::json_is_written_and_its_answers_are_read
//! I1 a real Tempo: tempo::tempo_has_the_spans_of_both_protocols_as_the_plugin_left_them
//! I2 tenants: tempo::a_tenant_in_the_exporters_headers_is_the_tenant_in_tempo, tempo::a_plugin_spreads_one_batch_over_two_tenants_of_tempo
//! I3 no tenant: tempo::a_sender_hears_that_a_multi_tenant_tempo_was_told_no_tenant, tempo::a_missing_tenant_is_told_with_its_remedy_and_not_retried
//! I4 traces too large, attributes too long: no test, Tempo tells its senders nothing of them
//! T1 accepted, with an empty partial success: tempo::an_empty_partial_success_is_a_plain_success
//! T2 ids of a wrong length, empty or zero: tempo::a_span_that_tempo_would_refuse_the_whole_request_for_does_not_reach_it, tempo::the_refusals_of_its_table_are_final_and_told_by_their_codes
//! T3 one bad span of three: tempo::tempo_has_the_good_spans_of_a_request_with_invalid_ids, tempo::a_span_that_tempo_would_refuse_the_whole_request_for_does_not_reach_it
//! T4 no tenant: tempo::a_missing_tenant_is_told_with_its_remedy_and_not_retried
//! T5 tenants that it does not take: tempo::a_tenant_that_tempo_does_not_take_is_a_permanent_error
//! T6 rate limit, with and without a pause: tempo::a_limited_rate_is_waited_for_with_and_without_a_word_on_how_long
//! T7 over the burst: tempo::a_request_over_the_burst_goes_in_parts_and_every_span_arrives_once, tempo::a_lone_span_over_the_burst_is_a_permanent_error
//! T8 a pause of the operator's own: tempo::a_tempo_that_was_told_to_ask_for_a_pause_gets_it
//! T9 over 4 MiB, over 20 MiB: tempo::a_message_over_the_limit_goes_in_parts_and_the_next_one_at_once, tempo::a_body_that_is_too_large_for_http_goes_in_parts
//! T10 malformed, other services: tempo::the_refusals_of_its_table_are_final_and_told_by_their_codes
//! T11 other methods, paths and content types: answers::http_statuses_are_retried_as_the_specification_says
//! T12 dropped or cut without a word: no test, nothing of it comes back

mod answers;
mod batching;
mod keys;
mod local;
mod routes;
mod sending;
mod tempo;
mod tls;
