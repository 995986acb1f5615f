-- Takes triggers, policies and row security away; partitions and rows stay.

set local role pandom_owner;
drop trigger audit_profiles_trigger_delete on public.user_profiles;

set local role pandom_owner;
drop trigger audit_profiles_trigger_insert on public.user_profiles;

set local role pandom_owner;
drop trigger audit_profiles_trigger_truncate on public.user_profiles;

set local role pandom_owner;
drop trigger audit_profiles_trigger_update on public.user_profiles;

set local role pandom_owner;
drop trigger audit_sessions_trigger_delete on public.sessions;

set local role pandom_owner;
drop trigger audit_sessions_trigger_insert on public.sessions;

set local role pandom_owner;
drop trigger audit_sessions_trigger_truncate on public.sessions;

set local role pandom_owner;
drop trigger audit_sessions_trigger_update on public.sessions;

set local role pandom_owner;
drop trigger audit_users_trigger_delete on public.auth_users;

set local role pandom_owner;
drop trigger audit_users_trigger_insert on public.auth_users;

set local role pandom_owner;
drop trigger audit_users_trigger_truncate on public.auth_users;

set local role pandom_owner;
drop trigger audit_users_trigger_update on public.auth_users;

set local role pandom_owner;
drop trigger delete_auth_users_profile on public.auth_users;

set local role pandom_owner;
drop trigger normalise_auth_users_hash on public.auth_users;

set local role pandom_owner;
drop trigger set_auth_users_updated_at on public.auth_users;

set local role pandom_owner;
drop trigger set_user_profiles_updated_at on public.user_profiles;

set local role pandom_owner;
drop trigger watch_auth_users on public.auth_users;

set local role pandom_trail;
drop policy administrator on public.audit_logs;

set local role pandom_trail;
drop policy evidence on public.audit_logs;

set local role pandom_trail;
drop policy trail_maintenance on public.audit_logs;

set local role pandom_trail;
drop policy user_isolation on public.audit_logs;

set local role pandom_owner;
drop policy account_functions on public.auth_users;

set local role pandom_owner;
drop policy administrator on public.auth_users;

set local role pandom_owner;
drop policy user_isolation on public.auth_users;

set local role pandom_trail;
drop policy administrator on public.security_logs;

set local role pandom_trail;
drop policy evidence on public.security_logs;

set local role pandom_trail;
drop policy trail_maintenance on public.security_logs;

set local role pandom_trail;
drop policy user_isolation on public.security_logs;

set local role pandom_owner;
drop policy account_functions on public.sessions;

set local role pandom_owner;
drop policy administrator on public.sessions;

set local role pandom_owner;
drop policy user_isolation on public.sessions;

set local role pandom_owner;
drop policy account_functions on public.user_profiles;

set local role pandom_owner;
drop policy administrator on public.user_profiles;

set local role pandom_owner;
drop policy user_isolation on public.user_profiles;

set local role pandom_owner;
alter table public.auth_users no force row level security;
alter table public.auth_users disable row level security;

set local role pandom_owner;
alter table public.user_profiles no force row level security;
alter table public.user_profiles disable row level security;

set local role pandom_owner;
alter table public.sessions no force row level security;
alter table public.sessions disable row level security;

set local role pandom_trail;
alter table public.audit_logs no force row level security;
alter table public.audit_logs disable row level security;

set local role pandom_trail;
alter table public.security_logs no force row level security;
alter table public.security_logs disable row level security;
