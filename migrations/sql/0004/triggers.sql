-- Every trigger, as schema/sql/triggers had it at this revision.

-- Every delete on user_profiles enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_delete
after delete on public.user_profiles
referencing old table as old_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_profiles_trigger_delete on public.user_profiles is
'Every delete on user_profiles enters the trail. P4';

-- Every insert on user_profiles enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_insert
after insert on public.user_profiles
referencing new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_profiles_trigger_insert on public.user_profiles is
'Every insert on user_profiles enters the trail. P4';

-- A truncate of user_profiles enters the trail as critical (P4).
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_truncate
after truncate on public.user_profiles
for each statement execute function public.audit_trigger_function();

comment on trigger audit_profiles_trigger_truncate on public.user_profiles is
'A truncate of user_profiles enters the trail as critical. P4';

-- Every update on user_profiles enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_profiles_trigger_update
after update on public.user_profiles
referencing old table as old_rows new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_profiles_trigger_update on public.user_profiles is
'Every update on user_profiles enters the trail. P4';

-- Every delete on sessions enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_delete
after delete on public.sessions
referencing old table as old_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_sessions_trigger_delete on public.sessions is
'Every delete on sessions enters the trail. P4';

-- Every insert on sessions enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_insert
after insert on public.sessions
referencing new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_sessions_trigger_insert on public.sessions is
'Every insert on sessions enters the trail. P4';

-- A truncate of sessions enters the trail as critical (P4).
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_truncate
after truncate on public.sessions
for each statement execute function public.audit_trigger_function();

comment on trigger audit_sessions_trigger_truncate on public.sessions is
'A truncate of sessions enters the trail as critical. P4';

-- Every update on sessions enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_sessions_trigger_update
after update on public.sessions
referencing old table as old_rows new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_sessions_trigger_update on public.sessions is
'Every update on sessions enters the trail. P4';

-- Every delete on auth_users enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_users_trigger_delete
after delete on public.auth_users
referencing old table as old_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_users_trigger_delete on public.auth_users is
'Every delete on auth_users enters the trail. P4';

-- Every insert on auth_users enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_users_trigger_insert
after insert on public.auth_users
referencing new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_users_trigger_insert on public.auth_users is
'Every insert on auth_users enters the trail. P4';

-- A truncate of auth_users enters the trail as critical (P4).
set local role pandom_owner;

create or replace trigger audit_users_trigger_truncate
after truncate on public.auth_users
for each statement execute function public.audit_trigger_function();

comment on trigger audit_users_trigger_truncate on public.auth_users is
'A truncate of auth_users enters the trail as critical. P4';

-- Every update on auth_users enters the trail (P4).
set local role pandom_owner;

create or replace trigger audit_users_trigger_update
after update on public.auth_users
referencing old table as old_rows new table as new_rows
for each statement execute function public.audit_trigger_function();

comment on trigger audit_users_trigger_update on public.auth_users is
'Every update on auth_users enters the trail. P4';

-- A deleted user takes its profile along (C1).
set local role pandom_owner;

create or replace trigger delete_auth_users_profile
after delete on public.auth_users
for each row when (old.profile_uuid is not null)
execute function public.delete_profile_of_user();

comment on trigger delete_auth_users_profile on public.auth_users is
'A deleted user takes its profile along. C1';

-- bcrypt hashes are stored in the form that pgcrypto verifies (P3).
set local role pandom_owner;

create or replace trigger normalise_auth_users_hash
before insert or update of password_hash on public.auth_users
for each row execute function public.normalise_password_hash();

comment on trigger normalise_auth_users_hash on public.auth_users is
'bcrypt hashes are stored in the form that pgcrypto verifies. P3';

-- updated_at of auth_users is true whoever writes (T7).
set local role pandom_owner;

create or replace trigger set_auth_users_updated_at
before update on public.auth_users
for each row execute function public.set_updated_at();

comment on trigger set_auth_users_updated_at on public.auth_users is
'updated_at is true whoever writes. T7';

-- updated_at of user_profiles is true whoever writes (T7).
set local role pandom_owner;

create or replace trigger set_user_profiles_updated_at
before update on public.user_profiles
for each row execute function public.set_updated_at();

comment on trigger set_user_profiles_updated_at on public.user_profiles is
'updated_at is true whoever writes. T7';

-- Role changes and deactivations enter security_logs, whoever writes them (T5).
set local role pandom_owner;

create or replace trigger watch_auth_users
after update on public.auth_users
for each row
when (old.role is distinct from new.role or old.is_active is distinct from new.is_active)
execute function public.watch_account();

comment on trigger watch_auth_users on public.auth_users is
'Role changes and deactivations enter security_logs. T5';
