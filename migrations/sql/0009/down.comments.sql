-- Comments of what is otherwise as it was.
set local role pandom_owner;
comment on trigger set_auth_users_updated_at on public.auth_users is
'updated_at is true whoever writes. T7';

comment on trigger set_user_profiles_updated_at on public.user_profiles is
'updated_at is true whoever writes. T7';

set local role pandom_trail;
comment on policy administrator on public.audit_logs is
'An active administrator sees every event. P2';

comment on policy evidence on public.audit_logs is
'The auditor reads the whole trail. A7';

comment on policy trail_maintenance on public.audit_logs is
'The trail''s own functions write and retire events. P5';

comment on policy user_isolation on public.audit_logs is
'A user sees its own events only. P2';

set local role pandom_owner;
comment on policy account_functions on public.auth_users is
'The account functions reach every row and check for themselves. P3';

comment on policy administrator on public.auth_users is
'An active administrator sees every row. P2';

set local role pandom_trail;
comment on policy administrator on public.security_logs is
'An active administrator sees every event. P2';

comment on policy evidence on public.security_logs is
'The auditor reads the whole trail. A7';

comment on policy trail_maintenance on public.security_logs is
'The trail''s own functions write and retire events. P5';

comment on policy user_isolation on public.security_logs is
'A user sees its own events only. P2';

set local role pandom_owner;
comment on policy account_functions on public.sessions is
'The account functions reach every row and check for themselves. P3';

comment on policy administrator on public.sessions is
'An active administrator sees every row. P2';

comment on policy user_isolation on public.sessions is
'A user reaches its own sessions only. P2';

set local role pandom_trail;
comment on policy evidence on public.trail_blocks is
'The auditor reads the chain. A7';

comment on policy trail_maintenance on public.trail_blocks is
'The sealer adds blocks. P5';

set local role pandom_owner;
comment on policy account_functions on public.user_profiles is
'The account functions reach every row and check for themselves. P3';

comment on policy administrator on public.user_profiles is
'An active administrator sees every row. P2';

comment on policy user_isolation on public.user_profiles is
'A user reaches its own profile only. P2';
