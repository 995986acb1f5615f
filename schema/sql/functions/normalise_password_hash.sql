-- Turns the prefixes $2b$ and $2y$ of bcrypt into $2a$.
--
-- The three name the same algorithm, but pgcrypto knows $2a$ only and silently
-- computes DES for the others. Applications that hash themselves write $2b$.
set local role pandom_owner;

create or replace function public.normalise_password_hash()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.password_hash ~ '^\$2[by]\$' then
        new.password_hash := '$2a$' || substr(new.password_hash, 5);
    end if;
    return new;
end
$$;

comment on function public.normalise_password_hash() is
'Trigger: writes bcrypt hashes in the form that pgcrypto verifies.';
