-- Takes back: Audit functions by table.
set local role pandom_trail;
drop function public.audit_user_profiles();
drop function public.audit_sessions();
drop function public.audit_auth_users();
set local role pandom_owner;
