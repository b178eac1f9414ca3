"""Small label files of each year, as the archives have them, and pictures to go with them."""

import pathlib

import cv2
import numpy as np
import simplejpeg

FILES = {
    "2016_test.csv": b"ISIC_0000001,0.0\r\nISIC_0000002,1.0\r\n",
    "2016_train.csv": b"img_id,Label\nISIC_0000003,benign\nISIC_0000004,malignant\n",
    "2016_words.csv": b"ISIC_0000003,benign\r\nISIC_0000004,malignant",
    "2017.csv": b"image_id,melanoma,seborrheic_keratosis\r\nISIC_0000001,0.0,0.0\r\nISIC_0000003,1.0,0.0\r\n"
    b"ISIC_0000005,0.0,1.0\r\n",
    "2017_metadata.csv": b"image_id,age_approximate,sex\nISIC_0000001,55,female\nISIC_0000005,unknown,unknown\n",
    "2018_ham.csv": b"lesion_id,image_id,dx,dx_type,age,sex,localization\n"
    b"HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp\nHAM_0000118,ISIC_0025030,akiec,histo,80.0,male,scalp\n",
    "2018_test.csv": b"image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_0034524,0.0,0.0,1.0,0.0,0.0,0.0,0.0\n",
    "2019.csv": b"image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\r\n"
    b"ISIC_0000001_downsampled,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\r\n"
    b"ISIC_0025030,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\r\nISIC_0060000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\r\n",
    "2019_metadata.csv": b"image,age_approx,anatom_site_general,lesion_id,sex\r\n"
    b"ISIC_0000001_downsampled,55,anterior torso,,female\r\nISIC_0060000,40,,BCN_0000001,male\r\n",
    "2020.csv": b"image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,"
    b"target\r\nISIC_2637011,IP_1,male,45,head/neck,unknown,benign,0\r\nISIC_2637012,IP_2,male,50,torso,melanoma,malignant,1\r\n"
    b"ISIC_2637013,IP_1,male,45,head/neck,lentigo NOS,benign,0\r\n",
    "2020_v2.csv": b"image_name,patient_id,lesion_id,sex,age_approx,anatom_site_general_challenge,diagnosis,"
    b"benign_malignant,target\r\nISIC_2637011,IP_1,IL_1,male,45,head/neck,unknown,benign,0\r\n",
    "2020_duplicates.csv": b"image_name_1,image_name_2\r\nISIC_2637011,ISIC_2637013",
    "2020_test.csv": b"image,patient,age_approx,anatom_site_general,sex\nISIC_0052060,IP_3,70,,male\n",
    "own.csv": b"image,target,diagnosis\nmine.jpg,1,nevus\n",
}
# Of 2024, and of the ISIC archive itself.
LATER_FILES = {
    "2024.csv": b"isic_id,target,patient_id,age_approx,sex,anatom_site_general,attribution,copyright_license,lesion_id,"
    b"iddx_full,iddx_1,iddx_2\n"
    b"ISIC_0015670,0,IP_1235828,60.0,male,lower extremity,Memorial Sloan Kettering,CC-BY,,Benign,Benign,\n"
    b"ISIC_0082829,1,IP_3249371,55.0,,head/neck,Memorial Sloan Kettering,CC-BY,IL_6727506,"
    b"Malignant::Malignant melanocytic proliferations (Melanoma)::Melanoma in situ,Malignant,Malignant\n"
    b"ISIC_0104229,0,IP_1117418,,male,posterior torso,Vienna,CC-BY,IL_1,Indeterminate::Atypical,Indeterminate,x\n",
    "2024_truth.csv": b"isic_id,malignant\nISIC_0015670,0.0\nISIC_0082829,1.0\n",
    "2024_test.csv": b"isic_id,patient_id,age_approx,sex,attribution,copyright_license,tbp_tile_type\n"
    b"ISIC_0015657,IP_6074337,45.0,male,Memorial Sloan Kettering,CC-BY,3D: XP\n",
    "archive.csv": b"isic_id,attribution,copyright_license,age_approx,anatom_site_general,diagnosis_1,diagnosis_2,"
    b"diagnosis_3,diagnosis_confirm_type,image_type,lesion_id,patient_id,sex\n"
    b"ISIC_0036045,Vienna,CC-BY-NC,55,posterior torso,Benign,Benign x,Nevus,,dermoscopic,IL_1641012,,male\n"
    b"ISIC_0034323,Vienna,CC-BY-NC,70,,Malignant,Malignant adnexal epithelial proliferations - Follicular,"
    b"Basal cell carcinoma,histopathology,dermoscopic,IL_9,IP_9,male\n"
    b"ISIC_0000100,Vienna,CC-BY-NC,70,,Indeterminate,Indeterminate melanocytic proliferations,"
    b"Atypical melanocytic neoplasm,,dermoscopic,,,\nISIC_0000101,Vienna,CC-0,70,,,,,,clinical: close-up,,,female\n",
    "archive_words.csv": b"isic_id,attribution,copyright_license,age_approx,benign_malignant,diagnosis,sex\n"
    b"ISIC_0015719,Queensland,CC-BY,45,benign,,female\nISIC_0068279,Barcelona,CC-BY-NC,45,malignant,melanoma,male\n"
    b"ISIC_0068280,Barcelona,CC-BY-NC,45,indeterminate,,male\n",
    "archive_bare.csv": b"isic_id,attribution,copyright_license,age_approx\nISIC_0015719,Queensland,CC-BY,45\n",
}


def write_all(folder: pathlib.Path, names=FILES) -> list[pathlib.Path]:
    """Writes the files and returns their paths, sorted."""
    for name in names:
        (folder / name).write_bytes(FILES[name])
    return sorted(folder / name for name in names)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns smooth coloured noise, RGB uint8 `[height, width, 3]`."""
    noise = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def write_jpeg(file: pathlib.Path, height: int, width: int, seed: int = 0) -> pathlib.Path:
    """Writes a `picture` as a JPEG and returns its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(simplejpeg.encode_jpeg(picture(height, width, seed), quality=95))
    return file
