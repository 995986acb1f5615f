-- Deletes the current user's account, profile and sessions; the trail keeps its name.
--
-- Returns false without a context, for a wrong password and for a throttled attempt.
set local role pandom_definer;

create or replace function public.delete_account(password text, hash_key text default null)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        delete_account.password, delete_account.hash_key
    );
    account constant public.auth_users := proof.account;
begin
    if not proof.confirmed then
        return false;
    end if;
    perform public.write_event(
        'security_logs', account.uuid, 'user_deleted', 'warning',
        jsonb_build_object('subject', account.uuid)
    );
    delete from public.auth_users as u where u.uuid = account.uuid;
    return true;
end
$$;

comment on function public.delete_account(text, text) is
'Deletes the current user''s account, profile and sessions.';
