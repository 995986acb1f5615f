-- What every table, column, constraint and index is for: auditors read the catalog (C6).
set local role pandom_owner;

comment on type public.userrole is 'What an account may do. T6';

comment on table public.user_profiles is
'Tags and metadata of a user; one row per user. T2';
comment on column public.user_profiles.uuid is
'The profile''s identity.';
comment on column public.user_profiles.tags is
'Free labels; searched with @>.';
comment on column public.user_profiles.metadata is
'Free data: a JSON object.';
comment on column public.user_profiles.created_at is
'When the row was made.';
comment on column public.user_profiles.updated_at is
'When the row was last changed; set by a trigger.';
comment on constraint ck_user_profiles_metadata on public.user_profiles is
'Metadata is a JSON object, never a list or a scalar. T2';
comment on constraint pk_user_profiles on public.user_profiles is
'One row per profile. T2';
comment on index public.idx_user_profiles_metadata is
'Search by metadata: metadata @> {…}. I1';
comment on index public.idx_user_profiles_tags is
'Search by tag: tags @> array[…]. I1 I4';

comment on table public.auth_users is
'Accounts: who may sign in, and how. T1';
comment on column public.auth_users.uuid is
'The account''s identity.';
comment on column public.auth_users.email is
'Address and sign-in name; unique, also ignoring case.';
comment on column public.auth_users.password_hash is
'bcrypt in the $2a$ form; * when the hash is kept encrypted.';
comment on column public.auth_users.role is
'What the account may do; changed by an administrator only.';
comment on column public.auth_users.is_active is
'False: no sign-in, no row security context.';
comment on column public.auth_users.is_verified is
'The e-mail was proven to be the user''s.';
comment on column public.auth_users.is_configured is
'The user went through the first set-up.';
comment on column public.auth_users.verification_token is
'SHA-256 of the token sent to verify the e-mail.';
comment on column public.auth_users.verification_expires is
'When the verification token expires.';
comment on column public.auth_users.reset_token is
'SHA-256 of the token sent to reset the password.';
comment on column public.auth_users.reset_token_expiry is
'When the reset token expires.';
comment on column public.auth_users.refresh_token is
'SHA-256 of the token that opens a new session.';
comment on column public.auth_users.refresh_token_expires is
'When the refresh token expires.';
comment on column public.auth_users.last_login_at is
'When the user last signed in.';
comment on column public.auth_users.profile_uuid is
'The user''s profile.';
comment on column public.auth_users.created_at is
'When the row was made.';
comment on column public.auth_users.updated_at is
'When the row was last changed; set by a trigger.';
comment on column public.auth_users.password_hash_encrypted is
'The bcrypt hash, encrypted with a key outside the database. P1';
comment on constraint ck_auth_users_email on public.auth_users is
'The e-mail looks like one. C5';
comment on constraint ck_auth_users_password_hash on public.auth_users is
'A bcrypt hash in the form that pgcrypto verifies, or * and the encrypted one beside it. P1 P3';
comment on constraint ck_auth_users_refresh_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires. P3';
comment on constraint ck_auth_users_reset_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires. P3';
comment on constraint ck_auth_users_role on public.auth_users is
'The role is one of the two, also if the enumeration grows. C5';
comment on constraint ck_auth_users_verification_token on public.auth_users is
'A token is stored as a SHA-256 digest and expires. P3';
comment on constraint fk_auth_users_profile_uuid_user_profiles on public.auth_users is
'A profile outlives nobody and leaves only with its user. C1';
comment on constraint pk_auth_users on public.auth_users is
'One row per account. T1';
comment on constraint uq_auth_users_email on public.auth_users is
'One account per e-mail. C4';
comment on constraint uq_auth_users_profile_uuid on public.auth_users is
'1:1 with a profile. C1 C4';
comment on index public.idx_auth_users_active is
'Newest active accounts. I1';
comment on index public.idx_auth_users_email is
'Sign-in; no two e-mails that differ only by case. I1 I2 C4';
comment on index public.idx_auth_users_refresh is
'Looks a refresh_token up; most rows have none. I1';
comment on index public.idx_auth_users_reset is
'Looks a reset_token up; most rows have none. I1';
comment on index public.idx_auth_users_role is
'The few administrators. I1';
comment on index public.idx_auth_users_verification is
'Looks a verification_token up; most rows have none. I1';

comment on table public.sessions is
'Open sessions; tokens as digests only. T4';
comment on column public.sessions.id is
'The session''s number.';
comment on column public.sessions.user_uuid is
'Whose session it is.';
comment on column public.sessions.token is
'SHA-256 of the session token.';
comment on column public.sessions.expires_at is
'When it ends by itself.';
comment on column public.sessions.created_at is
'When the row was made.';
comment on column public.sessions.ip_address is
'The client''s address, as the application stated it.';
comment on column public.sessions.user_agent is
'The client''s user agent, as the application stated it.';
comment on constraint ck_sessions_expires_at on public.sessions is
'A session lasts for some time. T4';
comment on constraint ck_sessions_token on public.sessions is
'Only a SHA-256 digest is stored, never a token. T4';
comment on constraint fk_sessions_user_uuid_auth_users on public.sessions is
'A deleted user''s sessions go with it. C3';
comment on constraint pk_sessions on public.sessions is
'One row per session. T4';
comment on constraint uq_sessions_token on public.sessions is
'A token opens one. T4';
comment on index public.idx_sessions_expires is
'Finds what the janitor deletes. I1 O3';
comment on index public.idx_sessions_user_expires is
'A user''s sessions; also serves the foreign key. I1 C3';

comment on table public.account_settings is
'Settings of the account functions and the monitoring views; one row. P3 O2';
comment on column public.account_settings.only_row is
'Always true: one row.';
comment on column public.account_settings.bcrypt_cost is
'Cost of new hashes: 12 is some 200 ms of CPU.';
comment on column public.account_settings.session_lifetime is
'How long a session lasts.';
comment on column public.account_settings.refresh_lifetime is
'How long a refresh token lasts.';
comment on column public.account_settings.verification_lifetime is
'How long a verification token lasts.';
comment on column public.account_settings.reset_lifetime is
'How long a reset token lasts.';
comment on column public.account_settings.failures_before_lock is
'Failed sign-ins by one address before it has to wait.';
comment on column public.account_settings.lock_base is
'The first wait; doubles each time.';
comment on column public.account_settings.lock_limit is
'The longest wait.';
comment on column public.account_settings.failures_before_slow is
'Failed sign-ins by all addresses in a day before unknown ones are slowed down.';
comment on column public.account_settings.slow_interval is
'Time between slowed-down attempts.';
comment on column public.account_settings.encrypt_password_hash is
'Whether hashes are stored encrypted. P1';
comment on column public.account_settings.suspicious_events_per_hour is
'More events of a user in an hour are suspicious. O2';
comment on constraint ck_account_settings_bcrypt_cost on public.account_settings is
'What bcrypt allows, and a sign-in can bear. P3';
comment on constraint ck_account_settings_only_row on public.account_settings is
'There is one row. P3';
comment on constraint ck_account_settings_positive on public.account_settings is
'Durations and thresholds that make sense. P3';
comment on constraint pk_account_settings on public.account_settings is
'One row. P3';
