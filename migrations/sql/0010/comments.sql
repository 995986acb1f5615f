-- Comments of what is otherwise as it was.
set local role pandom_definer;
comment on function public.admin_delete_user(uuid) is
'Deletes a user on behalf of an administrator.';

comment on function public.admin_find_by_email(text, integer) is
'Finds users by e-mail, ignoring case, for an administrator.';

comment on function public.admin_find_by_metadata(jsonb, integer) is
'Finds users whose metadata contain an object, for an administrator.';

comment on function public.admin_find_by_tag(text, integer) is
'Finds users who carry a tag, for an administrator.';

comment on function public.admin_set_active(uuid, boolean) is
'Activates or deactivates a user on behalf of an administrator.';

comment on function public.admin_set_role(uuid, public.userrole) is
'Changes a user''s role on behalf of an administrator.';

comment on function public.begin_context(text) is
'Opens the transaction''s context for the holder of a session token, signed.';

comment on function public.call_refused(text, text, integer, interval, integer, interval) is
'Why a call comes too often, by caller or on the server; null: it is counted.';

comment on function public.change_password(text, text, text) is
'Changes the current user''s password and ends its sessions.';

comment on function public.claim_messages(integer) is
'Hands outgoing messages with their tokens to the mailer.';

comment on function public.client_address() is
'The client''s address from app.client_ip; null when unset or malformed.';

comment on function public.client_agent() is
'The client''s user agent from app.user_agent, cut to 512 characters.';

comment on function public.complete_password_reset(text, text, text) is
'Sets a new password by a reset token; whether the token was good.';

comment on function public.confirm_password(text, text) is
'Whether the current user knows its password; failures count as failed sign-ins.';

comment on function public.context_signature(bytea, uuid, text) is
'HMAC over user, backend, transaction timestamp and session; the key is the caller''s.';

set local role pandom_trail;
comment on function public.create_partition(text, timestamp with time zone) is
'Makes one month''s partition of the trail; null where it exists.';

set local role pandom_definer;
comment on function public.current_profile_id() is
'The profile of the current user, or null; the policy of user_profiles asks it.';

comment on function public.current_user_id() is
'The user of the transaction''s context, or null; every policy asks it.';

comment on function public.current_user_is_admin() is
'Whether the current user is an active administrator; policies of pandom_admin ask it.';

comment on function public.deactivate_account(text, text) is
'Deactivates the current user''s account and ends its sessions.';

comment on function public.delete_account(text, text) is
'Deletes the current user''s account, profile and sessions.';

comment on function public.delete_expired(integer) is
'Deletes expired sessions and messages in batches; for the janitor.';

comment on function public.delete_profile_of_user() is
'Trigger: deletes the profile of a deleted user.';

set local role pandom_trail;
comment on function public.drain_default(text) is
'Moves what the default partition caught into partitions of its months.';

comment on function public.drop_partition(text, bigint, text) is
'Drops an expired, exported month of the trail; recomputes what was exported.';

set local role pandom_definer;
comment on function public.end_long_transactions() is
'Ends sessions of clients with too long a transaction or too many locks.';

set local role pandom_trail;
comment on function public.ensure_partitions(timestamp with time zone) is
'Makes the trail''s partitions for this month and the months ahead.';

comment on function public.event_value(text) is
'A value as an event holds it: whole, or its size and digest.';

comment on function public.expired_partitions(timestamp with time zone) is
'The partitions that retention no longer keeps, oldest first.';

set local role pandom_definer;
comment on function public.finish_message(bigint) is
'Removes a message that the mailer has sent.';

comment on function public.hash_cost(text) is
'The cost that a bcrypt hash says it has; null for *.';

comment on function public.hash_password(text, text) is
'A password''s bcrypt hash, encrypted where the setting says so.';

set local role pandom_trail;
comment on function public.is_reserved_event_type(text) is
'Whether only the database may write this event type.';

comment on function public.limit_details(text, text) is
'Puts the limit of an event''s size on a table of the trail; whether all rows keep it.';

set local role pandom_definer;
comment on function public.limit_requests(text) is
'Refuses a request that comes too often from an address or on the server.';

comment on function public.new_token() is
'256 random bits in base64url, handed out once and stored as a digest.';

set local role pandom_owner;
comment on function public.normalise_password_hash() is
'Trigger: writes bcrypt hashes in the form that pgcrypto verifies.';

set local role pandom_trail;
comment on function public.note_export(text, bigint, text, text) is
'Records that a partition was exported, and where to.';

set local role pandom_definer;
comment on function public.note_failed_attempt(bytea, inet) is
'Counts a failed sign-in of an e-mail, existing or not, from an address.';

comment on function public.note_refusal(text, uuid, text) is
'Records that somebody was refused, up to a rate.';

comment on function public.open_session(uuid) is
'Opens a session and a refresh token; the tokens leave the database once.';

set local role pandom_trail;
comment on function public.partition_digest(text) is
'Rows of a partition and the digest of its export.';

set local role pandom_definer;
comment on function public.password_matches(public.auth_users, text, text) is
'Whether a password belongs to an account; every answer costs the same.';

set local role pandom_trail;
comment on function public.read_partition(text) is
'A partition''s rows as canonical JSON lines, for export.';

comment on function public.record_event(text, jsonb) is
'Records an event of the application; sets user, time and address itself.';

set local role pandom_definer;
comment on function public.refresh_session(text) is
'Exchanges a refresh token, once, for a new session and refresh token.';

comment on function public.register(text, text, text[], jsonb, text) is
'Registers a user and sends a verification token; says nothing about who exists.';

comment on function public.renew_password_hash(public.auth_users, text, text) is
'Stores a hash of the present cost after a sign-in.';

comment on function public.request_email_change(text, text, text) is
'Sends a token to the new e-mail of the current user; verify_email() takes it.';

comment on function public.request_password_reset(text) is
'Sends a reset token to the holder of an e-mail; says nothing about who exists.';

comment on function public.require_admin() is
'Stops everybody but an active administrator; returns who it is.';

comment on function public.rotate_context_key() is
'Makes a new key for signing contexts; for the operator.';

set local role pandom_trail;
comment on function public.seal_trail(integer) is
'Seals what has committed into blocks of the hash chain; returns the number of rows.';

set local role pandom_definer;
comment on function public.send_message(text, text, text, interval) is
'Puts a message into the outbox, in place of an older one of its kind.';

comment on function public.set_password(uuid, text, text) is
'Stores a new password, ends the user''s sessions and withdraws tokens.';

set local role pandom_owner;
comment on function public.set_updated_at() is
'Trigger: sets updated_at to the time of the transaction.';

set local role pandom_definer;
comment on function public.sign_in(text, text, text) is
'Signs a user in by e-mail and password; one row, or none whatever the reason.';

comment on function public.sign_in_locked(bytea, inet) is
'Whether sign-in for this e-mail from this address has to wait.';

comment on function public.sign_out(text) is
'Ends the session of a token; whether there was one.';

comment on function public.sign_out_everywhere() is
'Ends every session of the current user; how many there were.';

comment on function public.stored_password_hash(public.auth_users, text) is
'A user''s bcrypt hash, decrypted where it is stored encrypted.';

comment on function public.token_digest(text) is
'SHA-256 of a token in hexadecimal; the only form in which a token is stored.';

set local role pandom_trail;
comment on function public.trail_block_hash(public.trail_blocks) is
'The hash of a block: over its columns and the hash of the block before.';

comment on function public.trail_partition(text) is
'The table and bounds of a month''s partition of the trail.';

set local role pandom_definer;
comment on function public.verify_email(text) is
'Verifies an account, or its new e-mail, by the token sent there.';

comment on function public.watch_account() is
'Trigger: traces role changes and deactivations, ends the sessions of the latter.';

set local role pandom_trail;
comment on function public.write_event(text, uuid, text, text, jsonb) is
'Writes an event of the database''s own; for the account functions only.';

set local role pandom_owner;
comment on trigger delete_auth_users_profile on public.auth_users is
'A deleted user takes its profile along.';

comment on trigger normalise_auth_users_hash on public.auth_users is
'bcrypt hashes are stored in the form that pgcrypto verifies.';

comment on trigger watch_auth_users on public.auth_users is
'Role changes and deactivations enter security_logs.';

set local role pandom_trail;
comment on view public.failed_logins_last_hour is
'Number of failed sign-ins of the last hour.';

comment on view public.suspicious_activity is
'Users with more events in the last hour than the setting allows.';
