-- Takes the limits away; what they shortened stays shortened.
set local role pandom_trail;

alter table public.audit_logs drop constraint ck_audit_logs_details;
alter table public.security_logs drop constraint ck_security_logs_details;
alter table public.audit_logs
add constraint ck_audit_logs_details check (jsonb_typeof(details) = 'object');
alter table public.security_logs
add constraint ck_security_logs_details check (jsonb_typeof(details) = 'object');
comment on constraint ck_audit_logs_details on public.audit_logs is
'Details are a JSON object. T3';
comment on constraint ck_security_logs_details on public.security_logs is
'Details are a JSON object. T5';

drop function public.limit_details(text, text);
drop function public.event_value(text);

set local role pandom_definer;

drop function public.note_refusal(text, uuid, text);
drop function public.limit_requests(text);
drop function public.call_refused(text, text, integer, interval, integer, interval);
drop function public.renew_password_hash(public.auth_users, text, text);
drop function public.hash_cost(text);
drop function public.end_long_transactions();
drop table public.recent_calls;
drop index public.idx_outbox_mailbox;

set local role pandom_owner;

drop index public.idx_auth_users_hash_cost;
alter table public.sessions drop constraint ck_sessions_user_agent;
alter table public.auth_users drop constraint ck_auth_users_password_hash_encrypted;
alter table public.user_profiles drop constraint ck_user_profiles_tags;
alter table public.user_profiles drop constraint ck_user_profiles_metadata_size;
alter table public.account_settings drop constraint ck_account_settings_rates;
alter table public.account_settings
drop column event_window,
drop column events_per_user,
drop column events_per_address,
drop column events_per_second,
drop column request_window,
drop column registrations_per_address,
drop column registrations_per_server,
drop column resets_per_address,
drop column resets_per_server,
drop column verifications_per_address,
drop column verifications_per_server,
drop column refreshes_per_user,
drop column message_window,
drop column messages_per_mailbox,
drop column transaction_limit;
