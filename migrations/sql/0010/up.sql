-- Comments of what the models declare, in plain words.
set local role pandom_owner;

comment on column public.account_settings.encrypt_password_hash is
'Whether hashes are stored encrypted.';

comment on column public.account_settings.suspicious_events_per_hour is
'More events of a user in an hour are suspicious.';

comment on table public.account_settings is
'Settings of the account functions and the monitoring views; one row.';

set local role pandom_trail;

comment on column public.audit_logs.user_uuid is
'Who acted; kept when the user is deleted, so no foreign key.';

comment on table public.audit_logs is 'The audit trail: append-only, one partition per month.';

set local role pandom_owner;

comment on column public.auth_users.password_hash_encrypted is
'The bcrypt hash, encrypted with a key outside the database.';

comment on table public.auth_users is 'Accounts: who may sign in, and how.';

set local role pandom_definer;

comment on table public.context_key is
'The key that signs contexts, and whether only signed ones count.';

comment on table public.email_changes is 'New e-mails that wait for their token.';

comment on table public.outbox is 'Outgoing messages with tokens in clear; for pandom_mailer.';

comment on table public.recent_calls is
'Calls that count towards a rate: unlogged, empty after a crash.';

set local role pandom_trail;

comment on column public.security_logs.user_uuid is
'Who acted; kept when the user is deleted, so no foreign key.';

comment on table public.security_logs is 'The trail of what concerns security: like audit_logs.';

set local role pandom_owner;

comment on table public.sessions is 'Open sessions; tokens as digests only.';

set local role pandom_definer;

comment on table public.sign_in_attempts is
'Failed sign-ins per e-mail and address, to limit guessing.';

set local role pandom_trail;

comment on table public.trail_blocks is
'Sealed blocks of the trail, a hash chain for each table: append-only.';

comment on table public.trail_retention is
'How many months the trail is kept; owned by pandom_trail.';

set local role pandom_owner;

comment on table public.user_profiles is 'Tags and metadata of a user; one row per user.';

comment on constraint pk_account_settings on public.account_settings is 'One row.';

set local role pandom_trail;

comment on constraint pk_audit_logs on public.audit_logs is 'One row per event.';

set local role pandom_owner;

comment on constraint pk_auth_users on public.auth_users is 'One row per account.';

set local role pandom_definer;

comment on constraint pk_context_key on public.context_key is 'One row.';

comment on constraint pk_email_changes on public.email_changes is 'One per user.';

comment on constraint pk_outbox on public.outbox is 'One row per message.';

comment on constraint pk_recent_calls on public.recent_calls is
'One row per call; counts the calls of one caller.';

set local role pandom_trail;

comment on constraint pk_security_logs on public.security_logs is 'One row per event.';

set local role pandom_owner;

comment on constraint pk_sessions on public.sessions is 'One row per session.';

set local role pandom_definer;

comment on constraint pk_sign_in_attempts on public.sign_in_attempts is
'One row per e-mail and address.';

set local role pandom_trail;

comment on constraint pk_trail_blocks on public.trail_blocks is 'One block a place in a chain.';

comment on constraint pk_trail_retention on public.trail_retention is 'One row per table.';

set local role pandom_owner;

comment on constraint pk_user_profiles on public.user_profiles is 'One row per profile.';

comment on constraint uq_auth_users_email on public.auth_users is 'One account per e-mail.';

comment on constraint uq_auth_users_profile_uuid on public.auth_users is '1:1 with a profile.';

set local role pandom_definer;

comment on constraint uq_email_changes_token on public.email_changes is 'One per token.';

set local role pandom_owner;

comment on constraint uq_sessions_token on public.sessions is 'A token opens one.';

set local role pandom_trail;

comment on constraint uq_trail_blocks_previous on public.trail_blocks is 'A chain does not fork.';

set local role pandom_owner;

comment on constraint ck_account_settings_bcrypt_cost on public.account_settings is
'What bcrypt allows, and a sign-in can bear.';

comment on constraint ck_account_settings_only_row on public.account_settings is
'There is one row.';

comment on constraint ck_account_settings_positive on public.account_settings is
'Durations and thresholds that make sense.';

comment on constraint ck_account_settings_rates on public.account_settings is
'Rates that make sense: 0 is no limit, no window is longer than a day.';

set local role pandom_trail;

comment on constraint ck_audit_logs_details on public.audit_logs is
'Details are a JSON object of at most 1 MiB, the user agent has at most 2048 bytes.';

comment on constraint ck_audit_logs_severity on public.audit_logs is 'The four severities.';

set local role pandom_owner;

comment on constraint ck_auth_users_email on public.auth_users is 'The e-mail looks like one.';

comment on constraint ck_auth_users_password_hash on public.auth_users is
'A bcrypt hash in the form that pgcrypto verifies, or * and the encrypted one beside it.';

comment on constraint ck_auth_users_password_hash_encrypted on public.auth_users is
'An encrypted hash is as long as one, and no place for other data.';

comment on constraint ck_auth_users_refresh_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires.';

comment on constraint ck_auth_users_reset_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires.';

comment on constraint ck_auth_users_role on public.auth_users is
'The role is one of the two, also if the enumeration grows.';

comment on constraint ck_auth_users_verification_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires.';

set local role pandom_definer;

comment on constraint ck_context_key_only_row on public.context_key is 'There is one.';

comment on constraint ck_context_key_secret on public.context_key is '256 bits.';

comment on constraint ck_email_changes_token on public.email_changes is
'Only a SHA-256 digest is stored.';

comment on constraint ck_outbox_kind on public.outbox is
'The kinds of messages that the mailer knows.';

set local role pandom_trail;

comment on constraint ck_security_logs_details on public.security_logs is
'Details are a JSON object of at most 1 MiB, the user agent has at most 2048 bytes.';

comment on constraint ck_security_logs_severity on public.security_logs is 'The four severities.';

set local role pandom_owner;

comment on constraint ck_sessions_expires_at on public.sessions is 'A session lasts for some time.';

comment on constraint ck_sessions_token on public.sessions is
'Only a SHA-256 digest is stored, never a token.';

comment on constraint ck_sessions_user_agent on public.sessions is
'A user agent has at most 512 characters.';

set local role pandom_trail;

comment on constraint ck_trail_blocks_hashes on public.trail_blocks is
'Hashes are SHA-256; a mark has 16 bytes.';

comment on constraint ck_trail_blocks_log on public.trail_blocks is 'The two tables of the trail.';

comment on constraint ck_trail_blocks_number on public.trail_blocks is
'Places count from 1, and no block is empty.';

comment on constraint ck_trail_retention_log on public.trail_retention is
'The two tables of the trail.';

comment on constraint ck_trail_retention_months on public.trail_retention is
'At least a month is kept, and one is made ahead.';

set local role pandom_owner;

comment on constraint ck_user_profiles_metadata on public.user_profiles is
'Metadata is a JSON object, never a list or a scalar.';

comment on constraint ck_user_profiles_metadata_size on public.user_profiles is
'Metadata has at most 65536 bytes as JSON text.';

comment on constraint ck_user_profiles_tags on public.user_profiles is
'At most 100 tags, together at most 8192 bytes.';

comment on constraint fk_auth_users_profile_uuid_user_profiles on public.auth_users is
'A profile cannot be deleted while its user exists.';

set local role pandom_definer;

comment on constraint fk_email_changes_user_uuid_auth_users on public.email_changes is
'Goes with its user.';

set local role pandom_owner;

comment on constraint fk_sessions_user_uuid_auth_users on public.sessions is
'A deleted user''s sessions go with it.';

set local role pandom_trail;

comment on index public.idx_audit_logs_chain is 'The order in which rows are sealed and verified.';

comment on index public.idx_audit_logs_event_time is 'Events of a kind in a time: monitoring.';

comment on index public.idx_audit_logs_time is 'Everything in a time: monitoring, export.';

comment on index public.idx_audit_logs_user_time is 'A user''s newest events.';

set local role pandom_owner;

comment on index public.idx_auth_users_active is 'Newest active accounts.';

comment on index public.idx_auth_users_email is 'Sign-in; no two e-mails that differ only by case.';

comment on index public.idx_auth_users_hash_cost is
'The highest cost of a hash: what every sign-in costs.';

comment on index public.idx_auth_users_refresh is 'Looks a refresh_token up; most rows have none.';

comment on index public.idx_auth_users_reset is 'Looks a reset_token up; most rows have none.';

comment on index public.idx_auth_users_role is 'The few administrators.';

comment on index public.idx_auth_users_verification is
'Looks a verification_token up; most rows have none.';

set local role pandom_definer;

comment on index public.idx_outbox_expires is 'Finds what the janitor deletes.';

comment on index public.idx_outbox_mailbox is 'Finds the older message that a new one replaces.';

comment on index public.idx_recent_calls_kind is 'Counts the calls on the whole server.';

set local role pandom_trail;

comment on index public.idx_security_logs_chain is
'The order in which rows are sealed and verified.';

comment on index public.idx_security_logs_event_time is 'Events of a kind in a time: monitoring.';

comment on index public.idx_security_logs_time is 'Everything in a time: monitoring, export.';

comment on index public.idx_security_logs_user_time is 'A user''s newest events.';

set local role pandom_owner;

comment on index public.idx_sessions_expires is 'Finds what the janitor deletes.';

comment on index public.idx_sessions_user_expires is
'A user''s sessions; also serves the foreign key.';

comment on index public.idx_user_profiles_metadata is 'Search by metadata: metadata @> {…}.';

comment on index public.idx_user_profiles_tags is 'Search by tag: tags @> array[…].';
