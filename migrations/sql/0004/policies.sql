-- Every policy, as schema/sql/policies had it at this revision.

-- Administrators see every event, in a role of their own (P2).
set local role pandom_trail;

drop policy if exists administrator on public.audit_logs;
create policy administrator on public.audit_logs
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.audit_logs is
'An active administrator sees every event. P2';

-- The auditor reads the whole trail and nothing else of users (A7).
set local role pandom_trail;

drop policy if exists evidence on public.audit_logs;
create policy evidence on public.audit_logs
for select to pandom_auditor
using (true);

comment on policy evidence on public.audit_logs is
'The auditor reads the whole trail. A7';

-- The trail's own functions write and retire events; FORCE puts their owner under
-- row security too (P5).
set local role pandom_trail;

drop policy if exists trail_maintenance on public.audit_logs;
create policy trail_maintenance on public.audit_logs
for all to pandom_trail
using (true)
with check (true);

comment on policy trail_maintenance on public.audit_logs is
'The trail''s own functions write and retire events. P5';

-- A user sees the events of its own only (P2). The sub-select makes it one call per query.
set local role pandom_trail;

drop policy if exists user_isolation on public.audit_logs;
create policy user_isolation on public.audit_logs
for select to pandom_app
using (user_uuid = (select public.current_user_id()));

comment on policy user_isolation on public.audit_logs is
'A user sees its own events only. P2';

-- The SECURITY DEFINER functions check for themselves; `true` leaves them every index (P3).
set local role pandom_owner;

drop policy if exists account_functions on public.auth_users;
create policy account_functions on public.auth_users
for all to pandom_definer
using (true)
with check (true);

comment on policy account_functions on public.auth_users is
'The account functions reach every row and check for themselves. P3';

-- Administrators see every row, in a role of their own: ORed into the users' policy
-- the clause would cost them their index (P2).
set local role pandom_owner;

drop policy if exists administrator on public.auth_users;
create policy administrator on public.auth_users
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.auth_users is
'An active administrator sees every row. P2';

-- A user sees its own account only (P2). The sub-select makes it one call per query.
set local role pandom_owner;

drop policy if exists user_isolation on public.auth_users;
create policy user_isolation on public.auth_users
for all to pandom_app
using (uuid = (select public.current_user_id()))
with check (uuid = (select public.current_user_id()));

comment on policy user_isolation on public.auth_users is
'A user reaches its own account only. P2';

-- Administrators see every event, in a role of their own (P2).
set local role pandom_trail;

drop policy if exists administrator on public.security_logs;
create policy administrator on public.security_logs
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.security_logs is
'An active administrator sees every event. P2';

-- The auditor reads the whole trail and nothing else of users (A7).
set local role pandom_trail;

drop policy if exists evidence on public.security_logs;
create policy evidence on public.security_logs
for select to pandom_auditor
using (true);

comment on policy evidence on public.security_logs is
'The auditor reads the whole trail. A7';

-- The trail's own functions write and retire events; FORCE puts their owner under
-- row security too (P5).
set local role pandom_trail;

drop policy if exists trail_maintenance on public.security_logs;
create policy trail_maintenance on public.security_logs
for all to pandom_trail
using (true)
with check (true);

comment on policy trail_maintenance on public.security_logs is
'The trail''s own functions write and retire events. P5';

-- A user sees the events of its own only (P2). The sub-select makes it one call per query.
set local role pandom_trail;

drop policy if exists user_isolation on public.security_logs;
create policy user_isolation on public.security_logs
for select to pandom_app
using (user_uuid = (select public.current_user_id()));

comment on policy user_isolation on public.security_logs is
'A user sees its own events only. P2';

-- The SECURITY DEFINER functions check for themselves; `true` leaves them every index (P3).
set local role pandom_owner;

drop policy if exists account_functions on public.sessions;
create policy account_functions on public.sessions
for all to pandom_definer
using (true)
with check (true);

comment on policy account_functions on public.sessions is
'The account functions reach every row and check for themselves. P3';

-- Administrators see every row, in a role of their own: ORed into the users' policy
-- the clause would cost them their index (P2).
set local role pandom_owner;

drop policy if exists administrator on public.sessions;
create policy administrator on public.sessions
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.sessions is
'An active administrator sees every row. P2';

-- A user sees its own sessions only (P2). The sub-select makes it one call per query.
set local role pandom_owner;

drop policy if exists user_isolation on public.sessions;
create policy user_isolation on public.sessions
for all to pandom_app
using (user_uuid = (select public.current_user_id()))
with check (user_uuid = (select public.current_user_id()));

comment on policy user_isolation on public.sessions is
'A user reaches its own sessions only. P2';

-- The SECURITY DEFINER functions check for themselves; `true` leaves them every index (P3).
set local role pandom_owner;

drop policy if exists account_functions on public.user_profiles;
create policy account_functions on public.user_profiles
for all to pandom_definer
using (true)
with check (true);

comment on policy account_functions on public.user_profiles is
'The account functions reach every row and check for themselves. P3';

-- Administrators see every row, in a role of their own: ORed into the users' policy
-- the clause would cost them their index (P2).
set local role pandom_owner;

drop policy if exists administrator on public.user_profiles;
create policy administrator on public.user_profiles
for select to pandom_admin
using ((select public.current_user_is_admin()));

comment on policy administrator on public.user_profiles is
'An active administrator sees every row. P2';

-- A user sees its own profile only (P2). The sub-select makes it one call per query.
set local role pandom_owner;

drop policy if exists user_isolation on public.user_profiles;
create policy user_isolation on public.user_profiles
for all to pandom_app
using (uuid = (select public.current_profile_id()))
with check (uuid = (select public.current_profile_id()));

comment on policy user_isolation on public.user_profiles is
'A user reaches its own profile only. P2';
