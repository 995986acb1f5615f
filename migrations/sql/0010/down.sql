-- Takes back: comments in plain words.
set local role pandom_owner;

comment on table public.user_profiles is 'Tags and metadata of a user; one row per user. T2';

set local role pandom_trail;

comment on table public.trail_retention is
'How many months the trail is kept; owned by pandom_trail. P5';

comment on table public.trail_blocks is
'Sealed blocks of the trail, a hash chain for each table: append-only. P5';

set local role pandom_definer;

comment on table public.sign_in_attempts is
'Failed sign-ins per e-mail and address, to limit guessing. P3';

set local role pandom_owner;

comment on table public.sessions is 'Open sessions; tokens as digests only. T4';

set local role pandom_trail;

comment on table public.security_logs is
'The trail of what concerns security: like audit_logs. T5 P5';

comment on column public.security_logs.user_uuid is
'Who acted; kept when the user is deleted, so no foreign key. C2';

set local role pandom_definer;

comment on table public.recent_calls is
'Calls that count towards a rate: unlogged, empty after a crash. P3 P5';

comment on table public.outbox is 'Outgoing messages with tokens in clear; for pandom_mailer. P3';

comment on table public.email_changes is 'New e-mails that wait for their token. P3';

comment on table public.context_key is
'The key that signs contexts, and whether only signed ones count. P2';

set local role pandom_owner;

comment on table public.auth_users is 'Accounts: who may sign in, and how. T1';

comment on column public.auth_users.password_hash_encrypted is
'The bcrypt hash, encrypted with a key outside the database. P1';

set local role pandom_trail;

comment on table public.audit_logs is
'The audit trail: append-only, one partition per month. T3 P5';

comment on column public.audit_logs.user_uuid is
'Who acted; kept when the user is deleted, so no foreign key. C2';

set local role pandom_owner;

comment on table public.account_settings is
'Settings of the account functions and the monitoring views; one row. P3 O2';

comment on column public.account_settings.suspicious_events_per_hour is
'More events of a user in an hour are suspicious. O2';

comment on column public.account_settings.encrypt_password_hash is
'Whether hashes are stored encrypted. P1';

comment on constraint pk_account_settings on public.account_settings is 'One row. P3';

set local role pandom_trail;

comment on constraint pk_audit_logs on public.audit_logs is 'One row per event. T3';

set local role pandom_owner;

comment on constraint pk_auth_users on public.auth_users is 'One row per account. T1';

set local role pandom_definer;

comment on constraint pk_context_key on public.context_key is 'One row. P2';

comment on constraint pk_email_changes on public.email_changes is 'One per user. P3';

comment on constraint pk_outbox on public.outbox is 'One row per message. P3';

comment on constraint pk_recent_calls on public.recent_calls is
'One row per call; counts the calls of one caller. P3';

set local role pandom_trail;

comment on constraint pk_security_logs on public.security_logs is 'One row per event. T5';

set local role pandom_owner;

comment on constraint pk_sessions on public.sessions is 'One row per session. T4';

set local role pandom_definer;

comment on constraint pk_sign_in_attempts on public.sign_in_attempts is
'One row per e-mail and address. P3';

set local role pandom_trail;

comment on constraint pk_trail_blocks on public.trail_blocks is 'One block a place in a chain. P5';

comment on constraint pk_trail_retention on public.trail_retention is 'One row per table. P5';

set local role pandom_owner;

comment on constraint pk_user_profiles on public.user_profiles is 'One row per profile. T2';

comment on constraint uq_auth_users_email on public.auth_users is 'One account per e-mail. C4';

comment on constraint uq_auth_users_profile_uuid on public.auth_users is
'1:1 with a profile. C1 C4';

set local role pandom_definer;

comment on constraint uq_email_changes_token on public.email_changes is 'One per token. P3';

set local role pandom_owner;

comment on constraint uq_sessions_token on public.sessions is 'A token opens one. T4';

set local role pandom_trail;

comment on constraint uq_trail_blocks_previous on public.trail_blocks is
'A chain does not fork. P5';

set local role pandom_owner;

comment on constraint ck_account_settings_bcrypt_cost on public.account_settings is
'What bcrypt allows, and a sign-in can bear. P3';

comment on constraint ck_account_settings_only_row on public.account_settings is
'There is one row. P3';

comment on constraint ck_account_settings_positive on public.account_settings is
'Durations and thresholds that make sense. P3';

comment on constraint ck_account_settings_rates on public.account_settings is
'Rates that make sense: 0 is no limit, no window is longer than a day. P3 P5';

set local role pandom_trail;

comment on constraint ck_audit_logs_details on public.audit_logs is
'Details are a JSON object of at most 1 MiB, the user agent has at most 2048 bytes. T3 P5';

comment on constraint ck_audit_logs_severity on public.audit_logs is 'The four severities. T3';

set local role pandom_owner;

comment on constraint ck_auth_users_email on public.auth_users is 'The e-mail looks like one. C5';

comment on constraint ck_auth_users_password_hash on public.auth_users is
'A bcrypt hash in the form that pgcrypto verifies, or * and the encrypted one beside it. P1 P3';

comment on constraint ck_auth_users_password_hash_encrypted on public.auth_users is
'An encrypted hash is as long as one, and no place for other data. P1';

comment on constraint ck_auth_users_refresh_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires. P3';

comment on constraint ck_auth_users_reset_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires. P3';

comment on constraint ck_auth_users_role on public.auth_users is
'The role is one of the two, also if the enumeration grows. C5';

comment on constraint ck_auth_users_verification_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires. P3';

set local role pandom_definer;

comment on constraint ck_context_key_only_row on public.context_key is 'There is one. P2';

comment on constraint ck_context_key_secret on public.context_key is '256 bits. P2';

comment on constraint ck_email_changes_token on public.email_changes is
'Only a SHA-256 digest is stored. P3';

comment on constraint ck_outbox_kind on public.outbox is
'The kinds of messages that the mailer knows. P3';

set local role pandom_trail;

comment on constraint ck_security_logs_details on public.security_logs is
'Details are a JSON object of at most 1 MiB, the user agent has at most 2048 bytes. T5 P5';

comment on constraint ck_security_logs_severity on public.security_logs is
'The four severities. T5';

set local role pandom_owner;

comment on constraint ck_sessions_expires_at on public.sessions is
'A session lasts for some time. T4';

comment on constraint ck_sessions_token on public.sessions is
'Only a SHA-256 digest is stored, never a token. T4';

comment on constraint ck_sessions_user_agent on public.sessions is
'A user agent has at most 512 characters. T4';

set local role pandom_trail;

comment on constraint ck_trail_blocks_hashes on public.trail_blocks is
'Hashes are SHA-256; a mark has 16 bytes. P5';

comment on constraint ck_trail_blocks_log on public.trail_blocks is
'The two tables of the trail. P5';

comment on constraint ck_trail_blocks_number on public.trail_blocks is
'Places count from 1, and no block is empty. P5';

comment on constraint ck_trail_retention_log on public.trail_retention is
'The two tables of the trail. P5';

comment on constraint ck_trail_retention_months on public.trail_retention is
'At least a month is kept, and one is made ahead. P5';

set local role pandom_owner;

comment on constraint ck_user_profiles_metadata on public.user_profiles is
'Metadata is a JSON object, never a list or a scalar. T2';

comment on constraint ck_user_profiles_metadata_size on public.user_profiles is
'Metadata has at most 65536 bytes as JSON text. T2 P5';

comment on constraint ck_user_profiles_tags on public.user_profiles is
'At most 100 tags, together at most 8192 bytes. T2 P5';

comment on constraint fk_auth_users_profile_uuid_user_profiles on public.auth_users is
'A profile outlives nobody and leaves only with its user. C1';

set local role pandom_definer;

comment on constraint fk_email_changes_user_uuid_auth_users on public.email_changes is
'Goes with its user. P3';

set local role pandom_owner;

comment on constraint fk_sessions_user_uuid_auth_users on public.sessions is
'A deleted user''s sessions go with it. C3';

set local role pandom_trail;

comment on index public.idx_audit_logs_chain is
'The order in which rows are sealed and verified. P5';

comment on index public.idx_audit_logs_event_time is
'Events of a kind in a time: monitoring. I1 O1';

comment on index public.idx_audit_logs_time is 'Everything in a time: monitoring, export. I1 O2';

comment on index public.idx_audit_logs_user_time is 'A user''s newest events. I1 I3';

set local role pandom_owner;

comment on index public.idx_auth_users_active is 'Newest active accounts. I1';

comment on index public.idx_auth_users_email is
'Sign-in; no two e-mails that differ only by case. I1 I2 C4';

comment on index public.idx_auth_users_hash_cost is
'The highest cost of a hash: what every sign-in costs. P3';

comment on index public.idx_auth_users_refresh is
'Looks a refresh_token up; most rows have none. I1';

comment on index public.idx_auth_users_reset is 'Looks a reset_token up; most rows have none. I1';

comment on index public.idx_auth_users_role is 'The few administrators. I1';

comment on index public.idx_auth_users_verification is
'Looks a verification_token up; most rows have none. I1';

set local role pandom_definer;

comment on index public.idx_outbox_expires is 'Finds what the janitor deletes. O3';

comment on index public.idx_outbox_mailbox is 'Finds the older message that a new one replaces. P3';

comment on index public.idx_recent_calls_kind is 'Counts the calls on the whole server. P3';

set local role pandom_trail;

comment on index public.idx_security_logs_chain is
'The order in which rows are sealed and verified. P5';

comment on index public.idx_security_logs_event_time is
'Events of a kind in a time: monitoring. I1 O1';

comment on index public.idx_security_logs_time is 'Everything in a time: monitoring, export. I1 O2';

comment on index public.idx_security_logs_user_time is 'A user''s newest events. I1 I3';

set local role pandom_owner;

comment on index public.idx_sessions_expires is 'Finds what the janitor deletes. I1 O3';

comment on index public.idx_sessions_user_expires is
'A user''s sessions; also serves the foreign key. I1 C3';

comment on index public.idx_user_profiles_metadata is 'Search by metadata: metadata @> {…}. I1';

comment on index public.idx_user_profiles_tags is 'Search by tag: tags @> array[…]. I1 I4';
