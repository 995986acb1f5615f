-- What every table, column, constraint and index is for: auditors read the catalog (C6).
set local role pandom_definer;

comment on table public.outbox is
'Outgoing messages with tokens in clear; for pandom_mailer. P3';
comment on column public.outbox.id is
'Its number.';
comment on column public.outbox.kind is
'Which message.';
comment on column public.outbox.email is
'To whom.';
comment on column public.outbox.token is
'The token in clear, if it has one.';
comment on column public.outbox.created_at is
'When it was put here.';
comment on column public.outbox.expires_at is
'When it is worthless.';
comment on column public.outbox.claimed_until is
'Until when a mailer is busy with it.';
comment on constraint ck_outbox_kind on public.outbox is
'The kinds of messages that the mailer knows. P3';
comment on constraint pk_outbox on public.outbox is
'One row per message. P3';
comment on index public.idx_outbox_expires is
'Finds what the janitor deletes. O3';

comment on table public.email_changes is
'New e-mails that wait for their token. P3';
comment on column public.email_changes.user_uuid is
'Whose e-mail.';
comment on column public.email_changes.new_email is
'The new e-mail.';
comment on column public.email_changes.token is
'SHA-256 of the token sent there.';
comment on column public.email_changes.expires_at is
'When the token expires.';
comment on constraint ck_email_changes_token on public.email_changes is
'Only a SHA-256 digest is stored. P3';
comment on constraint fk_email_changes_user_uuid_auth_users on public.email_changes is
'Goes with its user. P3';
comment on constraint pk_email_changes on public.email_changes is
'One per user. P3';
comment on constraint uq_email_changes_token on public.email_changes is
'One per token. P3';

comment on table public.sign_in_attempts is
'Failed sign-ins per e-mail and address, to limit guessing. P3';
comment on column public.sign_in_attempts.email_digest is
'SHA-256 of the e-mail in lower case, existing or not.';
comment on column public.sign_in_attempts.address is
'The client''s address; 0.0.0.0: none.';
comment on column public.sign_in_attempts.failures is
'Failures since the last success.';
comment on column public.sign_in_attempts.last_failed_at is
'The last failure.';
comment on column public.sign_in_attempts.last_succeeded_at is
'The last success; such an address is not slowed down by strangers.';
comment on constraint pk_sign_in_attempts on public.sign_in_attempts is
'One row per e-mail and address. P3';

comment on table public.context_key is
'The key that signs contexts, and whether only signed ones count. P2';
comment on column public.context_key.only_row is
'Always true: one row.';
comment on column public.context_key.secret is
'256 random bits.';
comment on column public.context_key.enforced is
'Whether only signed contexts count.';
comment on column public.context_key.created_at is
'When the key was made.';
comment on constraint ck_context_key_only_row on public.context_key is
'There is one. P2';
comment on constraint ck_context_key_secret on public.context_key is
'256 bits. P2';
comment on constraint pk_context_key on public.context_key is
'One row. P2';
