-- Takes the account tables away; the rows are lost, as with any dropped table.
set local role pandom_owner;

drop table public.account_settings;
drop table public.sessions;
drop table public.auth_users;
drop table public.user_profiles;
drop type public.userrole;
