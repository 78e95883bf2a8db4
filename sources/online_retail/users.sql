-- Online Retail II: one row per customer, also those whose every line is left out. Source and terms: see events.sql.
-- The region is the country of the latest invoice; between equals, the last in the alphabet.
SELECT
    CAST("Customer ID" AS VARCHAR) AS user_id,
    arg_max(Country, (InvoiceDate, Country)) AS region
FROM read_parquet('${ONLINE_RETAIL_PARQUET}')
WHERE "Customer ID" IS NOT NULL
GROUP BY "Customer ID"
ORDER BY user_id
