-- Role changes and deactivations enter security_logs, whoever writes them.
set local role pandom_owner;

create or replace trigger watch_auth_users
after update on public.auth_users
for each row
when (old.role is distinct from new.role or old.is_active is distinct from new.is_active)
execute function public.watch_account();

comment on trigger watch_auth_users on public.auth_users is
'Role changes and deactivations enter security_logs.';
