-- Stores a hash of the present cost after a sign-in, while the password is at hand.
--
-- Ends no session: the password stays what it was. One that today's rules would refuse
-- keeps its old hash.
set local role pandom_definer;

create or replace function public.renew_password_hash(
    account public.auth_users, password text, hash_key text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    fresh record;
begin
    if public.hash_cost(public.stored_password_hash(account, renew_password_hash.hash_key))
        = (select s.bcrypt_cost from public.account_settings as s)
    then
        return;
    end if;
    begin
        fresh := public.hash_password(
            renew_password_hash.password, renew_password_hash.hash_key
        );
    exception
        when invalid_parameter_value then return;
    end;
    update public.auth_users as u
    set password_hash = fresh.clear, password_hash_encrypted = fresh.encrypted
    where u.uuid = account.uuid;
end
$$;

comment on function public.renew_password_hash(public.auth_users, text, text) is
'Stores a hash of the present cost after a sign-in.';
