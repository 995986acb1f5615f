-- Whether a password belongs to an account; every answer costs the same.
--
-- The work is always that of the most expensive existing hash, or of the present cost if
-- that is higher: bcrypt of cost n takes half of n + 1, so after one of cost c those of
-- c, c + 1, … up to the limit add up to it. Otherwise the time would tell an account with
-- an older hash from an unknown address. Decryption is done for both, too. Costs above 16
-- cannot be set, and are not made up for.
set local role pandom_definer;

create or replace function public.password_matches(
    account public.auth_users, password text, hash_key text
)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    rules record;
    stored text;
    answer boolean := false;
    given constant text := coalesce(password_matches.password, '');
    cost integer;
    dearest integer;
begin
    select s.bcrypt_cost, s.encrypt_password_hash into strict rules
    from public.account_settings as s;
    dearest := least(16, greatest(rules.bcrypt_cost, (
        select max(substr(u.password_hash, 5, 2))
        from public.auth_users as u
        where u.password_hash <> '*'
    )::integer));
    if account.uuid is not null then
        stored := public.stored_password_hash(account, password_matches.hash_key);
        answer := coalesce(public.crypt(password_matches.password, stored) = stored, false);
        -- crypt() of a null is none.
        cost := case when password_matches.password is not null
            then public.hash_cost(stored) end;
    elsif rules.encrypt_password_hash and coalesce(password_matches.hash_key, '') <> '' then
        perform public.pgp_sym_encrypt(
            repeat('*', 60), password_matches.hash_key, 'cipher-algo=aes256, compress-algo=0'
        );
    end if;
    if cost is null then
        perform public.crypt(given, public.gen_salt('bf', dearest));
    else
        for n in cost..dearest - 1 loop
            perform public.crypt(given, public.gen_salt('bf', n));
        end loop;
    end if;
    return answer;
end
$$;

comment on function public.password_matches(public.auth_users, text, text) is
'Whether a password belongs to an account; every answer costs the same.';
