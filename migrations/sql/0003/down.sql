-- Takes every function and the account functions' tables away.
set local role pandom_trail;
drop function public.write_event(text, uuid, text, text, jsonb);

set local role pandom_definer;
drop function public.watch_account();

set local role pandom_definer;
drop function public.verify_email(text);

set local role pandom_trail;
drop function public.trail_partition(text);

set local role pandom_definer;
drop function public.sign_out_everywhere();

set local role pandom_definer;
drop function public.sign_out(text);

set local role pandom_definer;
drop function public.sign_in_locked(bytea, inet);

set local role pandom_definer;
drop function public.sign_in(text, text, text);

set local role pandom_owner;
drop function public.set_updated_at();

set local role pandom_definer;
drop function public.set_password(uuid, text, text);

set local role pandom_definer;
drop function public.send_message(text, text, text, interval);

set local role pandom_definer;
drop function public.rotate_context_key();

set local role pandom_definer;
drop function public.require_admin();

set local role pandom_definer;
drop function public.request_password_reset(text);

set local role pandom_definer;
drop function public.request_email_change(text, text, text);

set local role pandom_definer;
drop function public.register(text, text, text[], jsonb, text);

set local role pandom_definer;
drop function public.refresh_session(text);

set local role pandom_trail;
drop function public.record_event(text, jsonb);

set local role pandom_trail;
drop function public.read_partition(text);

set local role pandom_trail;
drop function public.protect_partition(text, text);

set local role pandom_definer;
drop function public.password_matches(public.auth_users, text, text);

set local role pandom_trail;
drop function public.partition_digest(text);

set local role pandom_definer;
drop function public.open_session(uuid);

set local role pandom_definer;
drop function public.note_failed_attempt(bytea, inet);

set local role pandom_trail;
drop function public.note_export(text, bigint, text, text);

set local role pandom_owner;
drop function public.normalise_password_hash();

set local role pandom_trail;
drop function public.is_reserved_event_type(text);

set local role pandom_definer;
drop function public.hash_password(text, text);

set local role pandom_definer;
drop function public.finish_message(bigint);

set local role pandom_trail;
drop function public.expired_partitions(timestamptz);

set local role pandom_trail;
drop function public.ensure_partitions(timestamptz);

set local role pandom_trail;
drop function public.drop_partition(text, bigint, text);

set local role pandom_trail;
drop function public.drain_default(text);

set local role pandom_definer;
drop function public.delete_profile_of_user();

set local role pandom_definer;
drop function public.delete_expired(integer);

set local role pandom_definer;
drop function public.delete_account(text, text);

set local role pandom_definer;
drop function public.deactivate_account(text, text);

set local role pandom_definer;
drop function public.current_user_is_admin();

set local role pandom_definer;
drop function public.current_user_id();

set local role pandom_definer;
drop function public.current_profile_id();

set local role pandom_trail;
drop function public.create_partition(text, timestamptz);

set local role pandom_definer;
drop function public.confirm_password(text, text);

set local role pandom_definer;
drop function public.complete_password_reset(text, text, text);

set local role pandom_definer;
drop function public.claim_messages(integer);

set local role pandom_definer;
drop function public.change_password(text, text, text);

set local role pandom_definer;
drop function public.begin_context(text);

set local role pandom_trail;
drop function public.audit_trigger_function();

set local role pandom_definer;
drop function public.admin_set_role(uuid, public.userrole);

set local role pandom_definer;
drop function public.admin_set_active(uuid, boolean);

set local role pandom_definer;
drop function public.admin_find_by_tag(text, integer);

set local role pandom_definer;
drop function public.admin_find_by_metadata(jsonb, integer);

set local role pandom_definer;
drop function public.admin_find_by_email(text, integer);

set local role pandom_definer;
drop function public.admin_delete_user(uuid);

set local role pandom_definer;
drop function public.stored_password_hash(public.auth_users, text);

set local role pandom_definer;
drop function public.client_agent();

set local role pandom_definer;
drop function public.client_address();

set local role pandom_definer;
drop function public.new_token();

set local role pandom_definer;
drop function public.token_digest(text);

set local role pandom_definer;
drop function public.context_signature(bytea, uuid, text);

set local role pandom_definer;
drop table public.outbox, public.email_changes, public.sign_in_attempts, public.context_key;

set local role pandom_owner;
revoke references (uuid) on public.auth_users from pandom_definer;
revoke usage on type public.userrole from pandom_definer;
